const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const time = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

const isToday = (date: Date): boolean => date.toDateString() === new Date().toDateString();

/** The time of today's, the day of others. */
export const shortTime = (timestamp: string): string => {
  const date = new Date(timestamp);
  return isToday(date) ? time.format(date) : day.format(date);
};

/** `at 14:00` today, `on 3 May, 00:00` otherwise. */
export const resetTime = (timestamp: string): string => {
  const date = new Date(timestamp);
  return isToday(date) ? `at ${time.format(date)}` : `on ${day.format(date)}, ${time.format(date)}`;
};

export const fullTime = (timestamp: string): string => full.format(new Date(timestamp));

export const bytes = (size: number): string =>
  size < 1_024
    ? `${size} B`
    : size < 1_048_576
      ? `${Math.round(size / 1_024)} KB`
      : `${(size / 1_048_576).toFixed(1)} MB`;
