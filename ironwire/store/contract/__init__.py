"""The contract of a store: operations and their results, records, and the rules that all stores share."""
