"""Language models of vendors, one module each."""
