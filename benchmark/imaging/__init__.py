"""Images: decoded once, brought into the frame of a task with their boxes and masks, and kept in a cache that processes share."""
