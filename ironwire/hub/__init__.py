"""Who is here, and how an envelope reaches them."""
