"""Orders: checked, understood, admitted, made jobs of."""
