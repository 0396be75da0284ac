"""The words that client and daemon share: frozen structs, tables and pure functions."""
