/** Starts the explorer. */

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import "graphiql/style.css";
import "./style.css";
import { Explorer } from "./explorer.jsx";

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Explorer />
  </StrictMode>,
);
