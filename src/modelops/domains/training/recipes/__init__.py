"""The recipes that the product ships. They enter by the plug-in door, as anybody's do."""
