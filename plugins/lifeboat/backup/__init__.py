"""The steps of a backup, one function each; operators and the command line run the same ones."""
