"""The pages of the browser app; they show what jobs does and have no logic of their own."""
