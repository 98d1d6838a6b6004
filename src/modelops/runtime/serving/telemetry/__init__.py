"""What models saw and said, on its way to monitoring: sketched, spooled, sent."""
