"""How long the console's pages and the API's lists take, with as much in the books as may be there."""
