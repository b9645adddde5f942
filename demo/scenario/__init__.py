"""Stories of one meter, told in a readable file: `bijli scenario run FILE`. See README.md here."""
