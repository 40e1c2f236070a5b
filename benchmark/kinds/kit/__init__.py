"""What several kinds share: files of predictions and their checks, drawing, and the embedding of images and texts."""
