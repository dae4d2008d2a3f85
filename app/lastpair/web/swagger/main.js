// Shows the API contract (OpenAPI) with Swagger UI.

// Swagger UI is dark while the root element has this class.
const dark = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followScheme);
followScheme();

// A stream does not end, so "Execute" would wait for its answer for ever.
const isStream = (operation) =>
  operation.hasIn(["responses", "101"]) || operation.hasIn(["responses", "200", "content", "text/event-stream"]);
const NoExecuteOfStreams = {
  statePlugins: {
    spec: {
      wrapSelectors: {
        allowTryItOutFor: (_, { specSelectors }) => (state, path, method) =>
          !isStream(specSelectors.specJson().getIn(["paths", path, method])),
      },
    },
  },
};

// Swagger UI has no input for a list of UUIDs, and complains on the console.
const UuidInput = ({ React, getComponent }) => ({
  components: { JsonSchema_string_uuid: (props) => React.createElement(getComponent("JsonSchema_string"), props) },
});

SwaggerUIBundle({
  url: "/api/openapi.json",
  dom_id: "#swagger-ui",
  plugins: [NoExecuteOfStreams, UuidInput],
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null, // the default would send the contract to another host
});
