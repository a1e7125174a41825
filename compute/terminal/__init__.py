"""A workflow in a terminal, from the JSON that the API answers: a drawing that is kept up to date, or plain lines."""
