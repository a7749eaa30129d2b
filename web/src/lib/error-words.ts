/** The server's validation errors in words for people who fill in a form. */
import type { ApiError, Json, NodeErrors } from "./types";

export interface NodeProblems {
  /** Input name to sentences. */
  fields: Record<string, string[]>;
  /** Sentences about the node as a whole. */
  node: string[];
}

export function problemsOf(node: string, ...reports: NodeErrors[]): NodeProblems {
  const problems: NodeProblems = { fields: {}, node: [] };
  for (const report of reports) {
    for (const error of report[node]?.errors ?? []) {
      const input = error.extra_info?.["input_name"];
      const sentence = errorWords(error);
      if (typeof input === "string") (problems.fields[input] ??= []).push(sentence);
      else problems.node.push(sentence);
    }
  }
  return problems;
}

export function errorWords(error: ApiError): string {
  const extra = error.extra_info ?? {};
  const received = extra["received_value"];
  const config = Array.isArray(extra["input_config"]) ? extra["input_config"][1] : null;
  const option = (name: string) => (config && typeof config === "object" && !Array.isArray(config) ? config[name] : undefined);
  switch (error.type) {
    case "required_input_missing":
      return "This is needed, but nothing is set or connected.";
    case "value_smaller_than_min":
      return `${show(received)} is too small: the smallest value is ${show(option("min"))}.`;
    case "value_bigger_than_max":
      return `${show(received)} is too large: the largest value is ${show(option("max"))}.`;
    case "value_not_in_list":
      return `"${show(received)}" is not among the choices on this server.`;
    case "invalid_input_type":
      return `"${show(received)}" is not a valid value here. ${show(extra["exception_message"])}`.trim();
    case "return_type_mismatch":
      return `A value of type ${show(extra["received_type"])} is connected here, which does not fit.`;
    case "bad_linked_input":
      return "This connection is broken: it should name a node and one of its outputs.";
    case "custom_validation_failed":
      // "<input> - <the node's own words>"
      return error.details.includes(" - ") ? error.details.slice(error.details.indexOf(" - ") + 3) : "The node does not accept this value.";
    default:
      return error.details ? `${error.message}: ${error.details}` : error.message;
  }
}

/** How many single errors a refusal holds. */
export function countErrors(errors: NodeErrors): number {
  return Object.values(errors).reduce((sum, report) => sum + report.errors.length, 0);
}

function show(value: Json | undefined): string {
  if (value === undefined || value === null) return "none";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
