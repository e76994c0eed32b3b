"""What only the production shape needs: its secrets, its first start, its roles, its proxy."""
