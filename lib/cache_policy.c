/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who leaves next: three FIFO queues, a memory of who left, and two rules.
 *
 *	a miss -> young -> small -> out        (not used since it was young)
 *	                        \-> main -> out (not used for a round)
 *	a miss that is remembered -> main, if it beats main's next victim
 *
 * A hit only adds to the entry's mark.  Marks are looked at when an entry gets
 * to the end of a queue: young clears them (uses so soon belong to the miss
 * that brought the entry in: a record read twice, a page found again by the
 * next step of the same search), small promotes, main takes one off and sends
 * the entry round again.  This is Clock2Q+ (Zhai and others, VLDB 2026), which
 * comes from S3-FIFO (SOSP 2023) and 2Q (VLDB 1994).  New are:
 *
 * Rule of reuse, after LIRS (SIGMETRICS 2002) and CLOCK-Pro: time is the weight
 * that came in.  What is remembered has its last known use, what is in main the
 * time when its mark was last seen.  A key that comes back goes to main only if
 *	time since its last use <= time for which main's victim was not used
 * So of a loop that is larger than the cache a part stays, and has hits: its
 * parts all come back after the same time, none beats another.  Reuse after
 * more than the cache's weight is a weaker proof: one in FAR_ONE_IN is let in,
 * so that a scan done twice does not cost main, and a loop still fills it.
 *
 * Rule of margins, after ARC (FAST 2003): each queue has a clock of its own,
 * the weight evicted from it.  A key that comes back when its queue has evicted
 * no more than 1 / MARGIN_PART of all weight since would be here if that queue
 * were so much heavier: one entry's weight of share goes to it.  So small grows
 * until a bit more weight brings both queues the same.
 *
 * Invariants: all == young + small + main, in weight and in entries;
 * SMALL_LEAST <= small_share <= SMALL_MOST, in per cent of POLICY_SHARES;
 * after an insert, young <= limit(small_share / YOUNG_PART) or has one entry.
 * Limits are shares of the weight that is there, not of the maximum, so that a
 * cache which the budget keeps small behaves like a small cache.
 *
 * Scans pass through young and small: main loses nothing to a key seen once.
 * An insert takes O(1) amortised; a victim at most VICTIM_STEPS, each of which
 * looks at memory that is far: if all of main that was passed then is in use,
 * the one with the least mark goes (64 steps: 0.2 % fewer misses).  Only an
 * insert takes memory (24 to 40 bytes for each entry, once something was
 * evicted); without it nothing is remembered: CLOCK behind a small FIFO.
 */
#include "cache_policy.h"

#include <string.h>

#include "assert.h"

/* Half or twice of any costs less than 0.5 % more misses (tried on traces). */
enum {
	/* Of the small queue, young included, in all weight. */
	SMALL_FIRST_PERCENT = 10,
	SMALL_LEAST_PERCENT = 2,
	SMALL_MOST_PERCENT = 50,
	YOUNG_PART = 4,		/* of the small queue */
	LEAST_ENTRIES = 2,	/* of mean weight: no limit is less */
	MARGIN_PART = 10,
	STEP_PART = 100,	/* of all: a share's biggest step */
	FAR_ONE_IN = 8,
	LOOK_STEPS = 8,		/* for a victim to compare with */
	VICTIM_STEPS = 16,
	STAMP_BITS = 17,	/* of what all weight is in units of time */
};

#define SHARES(percent) (POLICY_SHARES / 100 * (percent))

/* ---- time and weight ---- */

static uint32_t now(const struct cache_policy *p)
{
	return (uint32_t)(p->came >> p->shift);
}

/* What so many shares of all weight are, but a few entries at the least: that
 * many have so many shares, unless there are only a few. */
static inline uint64_t limit(const struct cache_policy *p, uint64_t shares)
{
	uint64_t part = p->weight / POLICY_SHARES * shares +
			p->weight % POLICY_SHARES * shares / POLICY_SHARES;
	uint64_t least;

	if (__builtin_expect(
		    p->count * shares >= LEAST_ENTRIES * POLICY_SHARES, 1))
		return part;
	least = p->count ? p->weight / p->count * LEAST_ENTRIES : 0;
	return part > least ? part : least;
}

/* ---- the queues ---- */

/* Who comes tells who came some steps before it, and that one, when it is the
 * oldest, who will be the oldest soon: it is far, and comes near meanwhile.
 * Along the links each step would have to wait for the one before. */
static inline void tell_ahead(struct cache_queue *q, struct cache_record *r)
{
	struct cache_record **last = &q->last[q->linked++ % QUEUE_AHEAD];

	if (*last)
		(*last)->ahead = r;
	*last = r;
}

static inline void expect_ahead(const struct cache_record *r)
{
	if (!r->ahead)
		return;
	__builtin_prefetch(r->ahead, 1);
	__builtin_prefetch(record_entry(r->ahead));
}

static inline void link_newest(struct cache_policy *p, struct cache_record *r,
			       enum cache_queue_name name, uint64_t weight)
{
	struct cache_queue *q = &p->queue[name];

	r->queue = name;
	if (!q->newest)
		q->newest = q->oldest = r;
	r->newer = q->oldest;
	r->older = q->newest;
	q->oldest->older = r;
	q->newest->newer = r;
	q->newest = r;
	q->weight += weight;
	q->count++;
	tell_ahead(q, r);
}

/* Its links and its queue's name are left as they are. */
static inline void unlink_from(struct cache_queue *q, struct cache_record *r,
			       uint64_t weight)
{
	r->newer->older = r->older;
	r->older->newer = r->newer;
	if (q->newest == r)
		q->newest = r->older;
	if (q->oldest == r)
		q->oldest = r->newer;
	q->weight -= weight;
	if (!--q->count) {
		q->newest = q->oldest = NULL;
		memset(q->last, 0, sizeof(q->last));
	}
	expect_ahead(r);
}

static void enter(struct cache_policy *p, struct cache_record *r,
		  enum cache_queue_name name)
{
	uint64_t weight = record_weight(r);

	p->weight += weight;
	p->count++;
	link_newest(p, r, name, weight);
}

static void leave(struct cache_policy *p, struct cache_record *r)
{
	uint64_t weight = record_weight(r);

	p->weight -= weight;
	p->count--;
	unlink_from(&p->queue[r->queue], r, weight);
	r->newer = r->older = NULL;
	r->queue = QUEUE_NONE;
}

static void move(struct cache_policy *p, struct cache_record *r,
		 enum cache_queue_name to)
{
	uint64_t weight = record_weight(r);

	unlink_from(&p->queue[r->queue], r, weight);
	link_newest(p, r, to, weight);
}

/* The oldest becomes the newest: in a circle, a matter of where it begins. */
static void rotate(struct cache_queue *q)
{
	struct cache_record *r = q->oldest;

	q->newest = r;
	q->oldest = r->newer;
	expect_ahead(r);
	tell_ahead(q, r);
}

/* Into main, or round it once more. */
static void move_to_main(struct cache_policy *p, struct cache_record *r)
{
	if (r == p->queue[QUEUE_MAIN].oldest)
		rotate(&p->queue[QUEUE_MAIN]);
	else
		move(p, r, QUEUE_MAIN);
	r->stamp = now(p);
}

/* What it was; 0: there is none to take, it was not used. */
static uint32_t take_mark(struct cache_record *r, bool all)
{
	struct atomic_u16 *at = &record_entry(r)->mark;
	uint16_t mark = u16_load_relaxed(at);	/* relaxed: a hint */

	if (mark)
		/* relaxed: a hint; a hit at the same time may be lost */
		u16_store_relaxed(at, all ? 0 : (uint16_t)(mark - 1));
	return mark;
}

/* ---- coming in ---- */

/* Uses until here were part of the one that brought the entry in. */
static void settle_young(struct cache_policy *p)
{
	struct cache_queue *young = &p->queue[QUEUE_YOUNG];
	uint64_t most = limit(p, p->small_share / YOUNG_PART);

	while (young->weight > most && young->count > 1) {
		struct cache_record *r = young->oldest;

		take_mark(r, true);
		move(p, r, QUEUE_SMALL);
	}
}

/*
 * The entry would still be here if its queue had been a little heavier: give
 * that queue a share of the other's.
 */
static void shift_share(struct cache_policy *p, uint64_t weight, bool to_main)
{
	const uint64_t least = SHARES(SMALL_LEAST_PERCENT);
	const uint64_t most = SHARES(SMALL_MOST_PERCENT);
	uint64_t part = p->weight / weight;
	uint64_t step = POLICY_SHARES / (part > STEP_PART ? part : STEP_PART);

	if (!to_main)
		p->small_share += step;
	else
		p->small_share -= step;
	if (p->small_share < least)
		p->small_share = least;
	if (p->small_share > most)
		p->small_share = most;
}

/* Main's next victim; NULL: none was found unused in a few steps. */
static struct cache_record *look_for_idle(struct cache_policy *p)
{
	for (unsigned i = 0; i < LOOK_STEPS; i++) {
		struct cache_record *r = p->queue[QUEUE_MAIN].oldest;

		if (!r || !take_mark(r, false))
			return r;
		move_to_main(p, r);
	}
	return NULL;
}

static bool main_has_room(const struct cache_policy *p)
{
	return p->queue[QUEUE_MAIN].weight + limit(p, p->small_share) <
	       p->weight;
}

/* Was it used again sooner than main's next victim may be? */
static bool beats_main(struct cache_policy *p, const struct ghost_note *note)
{
	const struct cache_record *idle;

	if (main_has_room(p))
		return true;
	idle = look_for_idle(p);
	return idle && ((now(p) - note->used) & GHOST_USED_MASK) <=
			       (uint32_t)(now(p) - idle->stamp);
}

/* Whether the entry may go to main at once. */
static bool is_proven(struct cache_policy *p, const struct cache_record *r)
{
	uint64_t total = p->weight >> p->shift;
	struct ghost_note note;
	uint64_t gone;
	bool far;

	if (!ghost_take(&p->ghost, entry_key(record_entry(r)), &note))
		return false;
	gone = ((p->left[note.from_main] >> p->shift) - note.left) &
	       GHOST_LEFT_MASK;
	if (gone <= total / MARGIN_PART)
		shift_share(p, record_weight(r), note.from_main);
	far = gone > total;
	if (far && ++p->far_seen < FAR_ONE_IN)
		return false;
	if (!beats_main(p, &note))
		return false;
	if (far)
		p->far_seen = 0;
	return true;
}

/*
 * So that stamps do not wrap too soon, however heavy the cache gets.  What is
 * remembered has stamps of the old unit.
 */
static void coarsen_time(struct cache_policy *p)
{
	uint32_t before = now(p);
	unsigned by = 0;

	while (p->weight >> (p->shift + by) >> STAMP_BITS)
		by += 2;
	if (!by)
		return;
	p->shift += by;
	for (unsigned i = 0; i < QUEUE_END; i++) {
		struct cache_record *r = p->queue[i].newest;

		for (uint64_t n = p->queue[i].count; n; n--, r = r->older) {
			uint64_t age = (uint32_t)(before - r->stamp);

			r->stamp = now(p) - (uint32_t)(age >> by);
		}
	}
	ghost_clear(&p->ghost);
}

void cache_policy_insert(struct cache_policy *p, struct cache_record *r)
{
	bool proven;

	seg_assert(record_weight(r) > 0 && r->queue == QUEUE_NONE);
	proven = is_proven(p, r);
	p->came += record_weight(r);
	r->stamp = now(p);
	enter(p, r, proven ? QUEUE_MAIN : QUEUE_YOUNG);
	settle_young(p);
	coarsen_time(p);
	if (p->left[0] || p->left[1])
		ghost_reserve(&p->ghost, p->count);
}

/* The stamp says meanwhile where it came from. */
void cache_policy_remove(struct cache_policy *p, struct cache_record *r)
{
	r->stamp = r->queue;
	leave(p, r);
}

/* At the newest end: what held it may use it again.  Not as young: that would
 * take off its mark. */
void cache_policy_return(struct cache_policy *p, struct cache_record *r)
{
	enter(p, r, r->stamp == QUEUE_MAIN ? QUEUE_MAIN : QUEUE_SMALL);
	r->stamp = now(p);
}

void cache_policy_succeed(struct cache_policy *p,
			  const struct cache_record *old,
			  struct cache_record *r)
{
	/* relaxed, both: a hint */
	uint16_t mark = u16_load_relaxed(&record_entry(old)->mark);

	u16_store_relaxed(&record_entry(r)->mark, mark);
	r->stamp = old->stamp;
	cache_policy_return(p, r);
}

/* ---- going out ---- */

static bool is_small_next(const struct cache_policy *p)
{
	const struct cache_queue *small = &p->queue[QUEUE_SMALL];
	const struct cache_queue *young = &p->queue[QUEUE_YOUNG];

	if (!p->queue[QUEUE_MAIN].count)
		return true;
	return small->weight + young->weight > limit(p, p->small_share);
}

static struct cache_record *oldest_small(const struct cache_policy *p)
{
	return p->queue[QUEUE_SMALL].oldest ? p->queue[QUEUE_SMALL].oldest :
					      p->queue[QUEUE_YOUNG].oldest;
}

struct cache_entry *cache_policy_next(const struct cache_policy *p)
{
	const struct cache_record *r = is_small_next(p) ?
		oldest_small(p) : p->queue[QUEUE_MAIN].oldest;

	return r ? record_entry(r) : NULL;
}

struct cache_record *cache_policy_victim(struct cache_policy *p)
{
	struct cache_record *least_used = NULL;
	uint32_t least = UINT32_MAX;
	bool small = is_small_next(p);

	for (unsigned i = 0; i < VICTIM_STEPS; i++) {
		struct cache_record *r = small ? oldest_small(p) :
						 p->queue[QUEUE_MAIN].oldest;
		uint32_t mark = r ? take_mark(r, small) : 0;

		if (!mark)
			return r;
		if (!small && mark < least) {
			least = mark;
			least_used = r;
		}
		move_to_main(p, r);
		/* A round within main changes no weight. */
		small = small && is_small_next(p);
	}
	return least_used ? least_used : p->queue[QUEUE_MAIN].oldest;
}

void cache_policy_evict(struct cache_policy *p, struct cache_record *r)
{
	bool from_main = r->queue == QUEUE_MAIN;

	p->left[from_main] += record_weight(r);
	ghost_put(&p->ghost, entry_key(record_entry(r)), (struct ghost_note){
		.from_main = from_main,
		.left = p->left[from_main] >> p->shift & GHOST_LEFT_MASK,
		.used = r->stamp & GHOST_USED_MASK,
	});
	leave(p, r);
}

/* ---- the rest ---- */

void cache_policy_init(struct cache_policy *p, uint64_t max_weight)
{
	p->max_weight = max_weight;
	p->small_share = SHARES(SMALL_FIRST_PERCENT);
}

/* Limits are shares of what is there; only memory may be too much now. */
void cache_policy_set_max(struct cache_policy *p, uint64_t max_weight)
{
	if (max_weight < p->max_weight / 4)
		ghost_clear(&p->ghost);
	p->max_weight = max_weight;
}

void cache_policy_clear(struct cache_policy *p)
{
	ghost_clear(&p->ghost);
}

static bool queue_is_valid(const struct cache_queue *q, unsigned name)
{
	const struct cache_record *r = q->newest;
	uint64_t weight = 0;

	if (!r || !q->count)
		return !r && !q->oldest && !q->count && !q->weight;
	for (uint64_t n = q->count; n; n--, r = r->older) {
		if (r->queue != name || r->older->newer != r ||
		    (n == 1) != (r == q->oldest))
			return false;
		weight += record_weight(r);
	}
	return r == q->newest && q->weight == weight;
}

bool cache_policy_is_valid(const struct cache_policy *p)
{
	uint64_t weight = 0, count = 0;

	for (unsigned i = 0; i < QUEUE_END; i++) {
		if (!queue_is_valid(&p->queue[i], i))
			return false;
		weight += p->queue[i].weight;
		count += p->queue[i].count;
	}
	return p->weight == weight && p->count == count &&
	       !p->queue[QUEUE_NONE].count &&
	       p->small_share >= SHARES(SMALL_LEAST_PERCENT) &&
	       p->small_share <= SHARES(SMALL_MOST_PERCENT);
}
