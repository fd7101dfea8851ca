// The document against the official JSON schema of OpenAPI 3.1, which validates the schemas in it too.

import { readFileSync } from "node:fs";
import { argv, exit } from "node:process";
import { validate } from "@hyperjump/json-schema/openapi-3-1";

const document = JSON.parse(readFileSync(argv[2], "utf8"));
const result = await validate("https://spec.openapis.org/oas/3.1/schema-base", document, "BASIC");
for (const error of result.errors ?? []) {
  console.error(`${error.instanceLocation}: ${error.absoluteKeywordLocation}`);
}
exit(result.valid ? 0 : 1);
