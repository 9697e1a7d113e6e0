"""The paper's three operations (eq. 14–17) as carriers: small modules in the model's tree with hooks on a layer."""
