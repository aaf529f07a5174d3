// The one connection of the page, and what hangs on it.

import { Connection } from "./connection.js";
import { Events, Ledger } from "./models.js";

export const connection = new Connection();
export const ledger = new Ledger(connection);
export const events = new Events(connection);
