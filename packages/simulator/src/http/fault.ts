import { Line } from "../play/line.ts";
import type { Fault, Operation } from "../state.ts";
import type { World } from "../world.ts";
import { type Exchange, errorBody, sendJson } from "./exchange.ts";

/**
 * Does `act` and sends what it returns, unless something else is programmed for the operation, or for the
 * wider one that may follow it: then that is the answer, before `act` or after it.
 */
export const withFaults = async (
  world: World,
  operations: Operation | readonly [Operation, Operation],
  exchange: Exchange,
  act: () => object | Promise<object>,
): Promise<void> => {
  const names: readonly Operation[] = typeof operations === "string" ? [operations] : operations;
  const fault = world.behaviour.take(...names);
  if (fault === null) {
    sendJson(exchange.response, 200, await act());
    return;
  }
  const answer = fault.after === true ? await act() : null;
  if (!(await meet(world, fault, exchange))) sendJson(exchange.response, 200, answer ?? (await act()));
};

/** True when the fault was the answer. */
const meet = async (world: World, fault: Fault, exchange: Exchange): Promise<boolean> => {
  const line = new Line(exchange.response, exchange.capture);
  if (fault.gate !== undefined) await world.gates.pass(fault.gate, line.gone);
  const status = fault.status ?? (fault.gate === undefined ? 500 : null);
  if (status === null) return line.isGone;
  if (status === "hang") await line.gone;
  else if (status === "drop") await line.drop();
  else sendStatus(status, fault, exchange);
  return true;
};

const sendStatus = (status: number, { retry_after: seconds }: Fault, { response }: Exchange): void => {
  if (seconds !== undefined) response.setHeader("retry-after", seconds);
  sendJson(response, status, errorBody(status, "simulated_failure", "A programmed failure."));
};
