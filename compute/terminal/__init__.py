"""Shows workflows in a terminal from the API's JSON: a diagram that is updated in place, or plain lines."""
