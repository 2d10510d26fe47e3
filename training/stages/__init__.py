"""One short function a DVC stage, each of a workspace; and how stages start and end."""
