import { ApiError, isClientError } from "@mini-chat/client";

/** What to tell a person about something that failed. */
export const problemText = (error: unknown): string => {
  if (error instanceof ApiError) return error.problem.detail || error.problem.title;
  if (isClientError(error)) return "The server could not be reached. Check your connection and try again.";
  return "Something went wrong.";
};
