/** Runs `work` unless a run of the same key is under way, which is shared then, failure included. */
export type SingleFlight<T> = (key: string, work: () => Promise<T>) => Promise<T>;

export const createSingleFlight = <T>(): SingleFlight<T> => {
  const flights = new Map<string, Promise<T>>();
  return (key, work) => {
    const running = flights.get(key);
    if (running !== undefined) return running;
    const flight = work().finally(() => flights.delete(key));
    flights.set(key, flight);
    return flight;
  };
};
