"""Pictures of what the other rooms compute. matplotlib is imported only when one is drawn."""
