window.ui = SwaggerUIBundle({
  url: '/openapi.json', dom_id: '#swagger-ui', deepLinking: true, docExpansion: 'list', persistAuthorization: false,
  defaultModelsExpandDepth: 0, tryItOutEnabled: true, validatorUrl: null,
});
