"""`python -m ironwire` is the command `ironwire`."""

from ironwire.cli import main

if __name__ == "__main__":
    main()
