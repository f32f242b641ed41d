import type { Period, TierStatus } from "@mini-chat/client";
import { useEffect } from "react";
import { useApp } from "../app/context.ts";
import { resetTime } from "../lib/format.ts";
import { useStore } from "../lib/store.ts";

const names = { total: "All models", premium: "Premium models" } as const;

const stateOf = ({ exhausted, warning }: Period): string =>
  exhausted ? "exhausted" : warning ? "warning" : "fine";

const Meter = ({ tier, period }: { readonly tier: TierStatus["tier"]; readonly period: Period }) => {
  const { remaining_percentage: left, exhausted, next_reset: reset } = period;
  const label = `${names[tier]}, ${period.period}`;
  return (
    <li className={`meter ${stateOf(period)}`}>
      <span className="meter-label">{label}</span>
      <span className="meter-value">{exhausted ? "used up" : `${left} % left`}</span>
      <meter min={0} max={100} value={left} aria-label={label}>
        {left} %
      </meter>
      <span className="meter-reset">Resets {resetTime(reset)}</span>
    </li>
  );
};

/** How much is left: the tightest in one line, all of it on request. */
export const QuotaMeter = () => {
  const { quota } = useApp();
  const status = useStore(quota.status);
  useEffect(() => quota.refresh(), [quota]);
  if (status === null) return null;
  const all = status.tiers.flatMap(({ tier, periods }) => periods.map((period) => ({ tier, period })));
  const tightest = all
    .filter(({ tier }) => tier === "total")
    .toSorted((one, other) => one.period.remaining_percentage - other.period.remaining_percentage)[0];
  if (tightest === undefined) return null;
  const { period } = tightest;
  return (
    <details className={`quota ${stateOf(period)}`}>
      <summary>
        <span>Quota</span>
        <span className="meter-value">
          {period.exhausted
            ? `used up, resets ${resetTime(period.next_reset)}`
            : `${period.remaining_percentage} % left`}
        </span>
        <meter min={0} max={100} value={period.remaining_percentage} aria-label="Quota left">
          {period.remaining_percentage} %
        </meter>
      </summary>
      <ul>
        {all.map((one) => (
          <Meter key={`${one.tier} ${one.period.period}`} tier={one.tier} period={one.period} />
        ))}
      </ul>
    </details>
  );
};
