"""The providers on Magnific, formerly Freepik."""
