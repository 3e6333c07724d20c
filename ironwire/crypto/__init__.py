"""Keys and signatures. Every primitive comes from libsodium through PyNaCl; nothing here is an algorithm of our own."""
