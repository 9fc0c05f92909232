/** Milliseconds since 1970 of a time like `2026-11-21T08:00:00Z`; undefined for any other text, and for no real day. */
export function parseUtcTime(text: unknown): number | undefined {
  if (typeof text !== "string") return undefined;
  const [, ...digits] = utcForm.exec(text) ?? [];
  if (digits.length === 0) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = digits.map(Number);
  if (day > daysIn(year, month)) return undefined;
  let days = daysBefore(year) - daysBefore(1970) + day - 1;
  for (let earlier = 1; earlier < month; earlier++) days += daysIn(year, earlier);
  return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000;
}

/** The same the other way round; fractions of a second are left out. */
export function utcText(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const days = Math.floor(seconds / 86_400);
  let year = 1970 + Math.floor(days / 365.2425);
  while (daysBefore(year) - daysBefore(1970) > days) year--;
  while (daysBefore(year + 1) - daysBefore(1970) <= days) year++;
  let day = days - (daysBefore(year) - daysBefore(1970));
  let month = 1;
  while (day >= daysIn(year, month)) day -= daysIn(year, month++);
  const rest = seconds - days * 86_400;
  const two = (number: number) => String(number).padStart(2, "0");
  const date = `${String(year).padStart(4, "0")}-${two(month)}-${two(day + 1)}`;
  return `${date}T${two(Math.floor(rest / 3600))}:${two(Math.floor(rest / 60) % 60)}:${two(rest % 60)}Z`;
}

/** Days from the year 0 to the first of January. */
function daysBefore(year: number): number {
  const past = year - 1;
  return year * 365 + Math.floor(past / 4) - Math.floor(past / 100) + Math.floor(past / 400);
}

function daysIn(year: number, month: number): number {
  if (month !== 2) return [4, 6, 9, 11].includes(month) ? 30 : 31;
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
}

const utcForm = /^(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)Z$/;
