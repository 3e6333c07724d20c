"""Keys and signatures. Every primitive comes from libsodium through PyNaCl; no algorithm is implemented here."""
