"""Evidence of a generation, and the pages and plots made of it."""
