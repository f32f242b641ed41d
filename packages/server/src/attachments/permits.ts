/** Who may upload now; never queues (attachments.md §3.8). */
export interface Permits {
  /** Takes a place for this user. Returns what gives it back, or null when all are taken. */
  take(user: string): (() => void) | null;
}

export const createPermits = (limits: { readonly process: number; readonly user: number }): Permits => {
  let taken = 0;
  const byUser = new Map<string, number>();
  return {
    take: (user) => {
      const own = byUser.get(user) ?? 0;
      if (taken >= limits.process || own >= limits.user) return null;
      taken += 1;
      byUser.set(user, own + 1);
      let held = true;
      return () => {
        if (!held) return;
        held = false;
        taken -= 1;
        const left = (byUser.get(user) ?? 1) - 1;
        if (left === 0) byUser.delete(user);
        else byUser.set(user, left);
      };
    },
  };
};
