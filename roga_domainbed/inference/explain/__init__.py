"""Why a model says what it says: heat maps over its inputs, and its features in the plane."""
