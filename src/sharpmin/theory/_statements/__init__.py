"""What a statement is, which one speaks about which situation, and how one is confronted with runs."""
