// Shows this service's OpenAPI document with Swagger UI, and nothing that an address could name instead.
"use strict";

const operations = document.getElementById("operations");

// Swagger UI has a dark palette but leaves the choice to the page; we follow the system's.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const followSystem = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followSystem);
followSystem();

window.SwaggerUIBundle({
  url: operations.dataset.document,
  domNode: operations,
  // An address like /docs?url=... must not make this page show, and send to, somebody else's service.
  queryConfigEnabled: false,
  // The default would send the document to a validator outside.
  validatorUrl: null,
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  requestSnippetsEnabled: true,
  defaultModelsExpandDepth: 0,
});
