"""What atofx found, as data and as text. Nothing here changes a program."""
