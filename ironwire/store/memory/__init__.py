"""The store in memory: the oracle that the other stores are compared with."""
