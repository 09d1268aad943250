"""Who executes a view: one meaning, the steps' draws and Pillow's pixels, by different means."""
