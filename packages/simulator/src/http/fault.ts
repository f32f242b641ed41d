import { Line } from "../play/line.ts";
import type { Operation } from "../state.ts";
import type { World } from "../world.ts";
import { type Exchange, errorBody, sendJson } from "./exchange.ts";

/** Does what is programmed for this operation; true when that was the answer. */
export const meetFault = async (world: World, operation: Operation, exchange: Exchange): Promise<boolean> => {
  const fault = world.behaviour.take(operation);
  if (fault === null) return false;
  const line = new Line(exchange.response, exchange.capture);
  if (fault.gate !== undefined) await world.gates.pass(fault.gate, line.gone);
  const status = fault.status ?? (fault.gate === undefined ? 500 : null);
  if (status === null) return line.isGone;
  if (status === "hang") await line.gone;
  else if (status === "drop") await line.drop();
  else sendJson(exchange.response, status, errorBody(status, "simulated_failure", "A programmed failure."));
  return true;
};
