"""Images: where they come from, how they are split, kept or streamed, and augmented."""
