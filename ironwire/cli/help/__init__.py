"""Help, completion and manual pages, made from the commands' own texts."""
