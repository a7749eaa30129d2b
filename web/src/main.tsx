import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { recallDocument } from "./state/memory";
import { start } from "./state/server-actions";
import { setState } from "./state/store";
import { App } from "./ui/App";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/shell.css";
import "./styles/workflow.css";
import "./styles/nodes.css";
import "./styles/fields.css";
import "./styles/views.css";

const root = document.getElementById("root");
if (root) {
  setState({ document: recallDocument() });
  start();
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
