"""Programs that a developer runs now and then: make reference, make swagger-ui, make screenshots."""
