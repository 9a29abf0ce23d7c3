/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory of an execution.  Each cell keeps its newest stores, each with
 * what a load of it acquires; a thread's clock says what has happened before.
 *
 * The modification order is the order of execution, and so is the one order of
 * seq_cst stores.  A seq_cst load stands in it anywhere after what happens
 * before the load: it may be done early, as on machines that let it pass the
 * weaker loads before it.
 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

enum { HISTORY = 12, CELLS = 2048, COUNTERS = 16 };

/* Where a history keeps what full barriers have passed on; see there. */
enum { BARRIERS = EXPLORE_THREADS, VIEWS };

struct store {
	uint64_t value;
	struct clock released;	/* joined by whoever acquires it */
	uint16_t time;		/* of its thread */
	uint16_t seq_cst;	/* its place in that order; 0: not in it */
	uint8_t thread;
};

struct history {
	struct store store[HISTORY];
	uint8_t stores;
	uint8_t seen[VIEWS];		/* coherence: none older any more */
};

static struct history histories[CELLS];
static struct {
	const char *from;
	size_t bytes;
} counters[COUNTERS];
static unsigned counter_count;
static unsigned used;
static uint16_t last_seq_cst;	/* place */

struct op {
	const struct explore_site *site;
	struct explore_word *word;
	struct history *history;
	enum explore_mutation mutation;
	enum explore_order order;
	uint64_t kept;
};

void memory_reset(void)
{
	used = 0;
	last_seq_cst = 0;
	counter_count = 0;
}

void explore_counters(const void *from, size_t bytes)
{
	if (counter_count == COUNTERS)
		abort();
	counters[counter_count].from = from;
	counters[counter_count++].bytes = bytes;
}

void explore_counter(const struct explore_word *w)
{
	explore_counters(w, sizeof(*w));
}

static bool is_counter(const struct explore_word *w)
{
	for (unsigned i = 0; i < counter_count; i++)
		if ((size_t)((const char *)w - counters[i].from) <
		    counters[i].bytes)
			return true;
	return false;
}

static struct history *history_of(struct explore_word *w)
{
	struct history *h;

	if (w->execution == engine.execution)
		return &histories[w->history];
	if (used == CELLS)
		abort();
	w->execution = engine.execution;
	w->history = used++;
	h = &histories[w->history];
	memset(&h->store[0], 0, sizeof(h->store[0]));
	memset(h->seen, 0, sizeof(h->seen));
	h->store[0].value = w->value;
	h->stores = 1;
	return h;
}

static void check_memory(const struct explore_site *site,
			 const struct explore_word *w)
{
	const char *misuse = world_misuse(w);

	if (misuse)
		explore_fail("%s: %s %s", site->function, site->op, misuse);
}

/* False: alone, or a counter; then the newest value is all there is. */
static bool begin(struct op *op, struct explore_site *site,
		  const struct explore_word *w)
{
	struct site_info *info = site_info(site);

	op->site = site;
	op->word = (struct explore_word *)(uintptr_t)w;
	op->mutation = info->mutation;
	op->kept = info->kept;
	op->order = info->mutation == EXPLORE_RELAX ? EXPLORE_relaxed :
		    site->order;
	check_memory(site, w);
	if (!engine.running)
		engine_count_outside();
	if (!engine.running || info->counter || is_counter(w))
		return false;
	engine_point();
	check_memory(site, w);
	op->history = history_of(op->word);
	return true;
}

/* Whether a load of that order can't read what is older. */
static bool hides_older(const struct store *s, unsigned thread,
			enum explore_order order)
{
	const struct clock *now = &engine.thread[thread].now;

	return s->time <= now->at[s->thread] ||
	       (order == EXPLORE_seq_cst && s->seq_cst &&
		s->seq_cst <= now->seq_cst);
}

static unsigned oldest_readable(const struct history *h, unsigned thread,
				enum explore_order order)
{
	unsigned oldest = h->seen[thread];
	unsigned i = h->stores - 1u;

	while (i > oldest && !hides_older(&h->store[i], thread, order))
		i--;
	return i;
}

static uint64_t read_store(struct history *h, unsigned i,
			   enum explore_order order)
{
	struct thread *self = engine_self();

	h->seen[engine.current] = (uint8_t)i;
	if (order & EXPLORE_acquire)
		clock_join(&self->now, &h->store[i].released);
	if (order == EXPLORE_seq_cst && h->store[i].seq_cst > self->now.seq_cst)
		self->now.seq_cst = h->store[i].seq_cst;
	return h->store[i].value;
}

static void forget_oldest(struct history *h)
{
	memmove(h->store, h->store + 1, (HISTORY - 1) * sizeof(h->store[0]));
	h->stores--;
	for (unsigned i = 0; i < VIEWS; i++)
		h->seen[i] -= h->seen[i] > 0;
}

/* follows: a read-modify-write, which carries the release sequence on. */
static void append(struct op *op, uint64_t value, bool follows)
{
	struct history *h = op->history;
	struct thread *self = engine_self();
	struct store *s;

	if (h->stores == HISTORY)
		forget_oldest(h);
	s = &h->store[h->stores];
	memset(s, 0, sizeof(*s));
	s->value = op->word->value = value;
	s->thread = (uint8_t)engine.current;
	s->time = ++self->now.at[engine.current];
	if (follows)
		s->released = s[-1].released;
	if (op->order == EXPLORE_seq_cst)
		s->seq_cst = self->now.seq_cst = ++last_seq_cst;
	if (op->order & EXPLORE_release)
		clock_join(&s->released, &self->now);
	h->seen[engine.current] = h->stores++;
}

uint64_t explore_load(struct explore_site *site, const struct explore_word *w)
{
	struct op op;
	unsigned newest, oldest;
	uint64_t value;

	if (!begin(&op, site, w))
		return w->value;
	if (op.mutation == EXPLORE_STALE)
		return op.history->store[op.history->seen[engine.current]]
			.value;
	newest = op.history->stores - 1u;
	oldest = oldest_readable(op.history, engine.current, op.order);
	value = read_store(op.history, newest - engine_odd(newest - oldest + 1),
			   op.order);
	engine_trace(site, value == w->value ? "reads" : "reads old", value);
	return op.mutation == EXPLORE_SKIP ? 0 : value;
}

void explore_store(struct explore_site *site, struct explore_word *w,
		   uint64_t v)
{
	struct op op;

	if (!begin(&op, site, w)) {
		w->value = v;
		return;
	}
	if (op.mutation != EXPLORE_SKIP)
		append(&op, v, false);
	engine_trace(site, "stores", v);
}

/* Reads the newest store as the first half of a read-modify-write. */
static uint64_t read_newest(struct op *op)
{
	return read_store(op->history, op->history->stores - 1u, op->order);
}

static uint64_t apply(enum explore_verb verb, uint64_t old, uint64_t v)
{
	switch (verb) {
	case EXPLORE_ADD:
		return old + v;
	case EXPLORE_SUB:
		return old - v;
	case EXPLORE_OR:
		return old | v;
	default:
		return old & v;
	}
}

/* The second half; apart from the first if split. */
static void write_back(struct op *op, uint64_t value)
{
	if (op->mutation == EXPLORE_SKIP)
		return;
	if (op->mutation == EXPLORE_SPLIT)
		engine_point();
	append(op, value, true);
}

uint64_t explore_exchange(struct explore_site *site, struct explore_word *w,
			  uint64_t v)
{
	struct op op;
	uint64_t old = w->value;

	if (!begin(&op, site, w)) {
		w->value = v;
		return old;
	}
	old = read_newest(&op);
	write_back(&op, v);
	engine_trace(site, "replaces", old);
	return old;
}

uint64_t explore_rmw(struct explore_site *site, struct explore_word *w,
		     enum explore_verb verb, uint64_t v, uint64_t mask)
{
	struct op op;
	uint64_t old = w->value;

	if (!begin(&op, site, w)) {
		w->value = apply(verb, old, v) & mask;
		return old;
	}
	old = read_newest(&op);
	write_back(&op, apply(verb, old, v) & mask);
	engine_trace(site, "gives", w->value);
	return old;
}

/*
 * The stores that a failing exchange may have read, newest first; the newest
 * twice over if it is weak, to fail with no reason.
 */
static unsigned failing(const struct op *op, uint64_t expected, bool weak,
			enum explore_order order, uint8_t *list)
{
	const struct history *h = op->history;
	unsigned oldest = oldest_readable(h, engine.current, order);
	unsigned newest = h->stores - 1u;
	unsigned n = 0;

	for (unsigned i = newest + 1; i-- > oldest;)
		if (h->store[i].value != expected)
			list[n++] = (uint8_t)i;
	if (weak && h->store[newest].value == expected)
		list[n++] = (uint8_t)newest;
	return n;
}

static bool exchange_fails(struct op *op, uint64_t *old, bool weak)
{
	/* acq_rel fails as acquire, release as relaxed */
	enum explore_order order = op->order & ~(unsigned)EXPLORE_release;
	struct history *h = op->history;
	uint8_t list[HISTORY + 1];
	bool may_win = h->store[h->stores - 1].value == *old;
	unsigned n, k;

	if (op->order == EXPLORE_seq_cst)
		order = EXPLORE_seq_cst;
	n = failing(op, *old, weak, order, list);
	k = engine_odd(n + may_win);
	if (may_win && k == 0)
		return false;
	*old = read_store(h, list[k - may_win], order);
	return true;
}

/* Whether a mutated exchange wins, whatever is there. */
static bool wins_anyway(const struct op *op, uint64_t expected)
{
	uint64_t differs = op->word->value ^ expected;

	return op->mutation == EXPLORE_BLIND ||
	       (op->mutation == EXPLORE_ONLY && !(differs & op->kept));
}

/* A split exchange adds what it would have changed to what is there by now, and
 * so does one that compares only some bits. */
static void exchange(struct op *op, uint64_t expected, uint64_t v)
{
	uint64_t value = v;

	if (op->mutation == EXPLORE_KEEP)
		value = (v & ~op->kept) | (expected & op->kept);
	if (op->mutation == EXPLORE_SPLIT)
		engine_point();
	if (op->mutation == EXPLORE_SPLIT || op->mutation == EXPLORE_ONLY)
		value = op->word->value + v - expected;
	read_newest(op);
	if (op->mutation != EXPLORE_SKIP)
		append(op, value, true);
}

bool explore_cas(struct explore_site *site, struct explore_word *w,
		 uint64_t *old, uint64_t v, bool weak)
{
	struct op op;
	uint64_t expected = *old;

	if (!begin(&op, site, w)) {
		*old = w->value;
		if (w->value == expected)
			w->value = v;
		return *old == expected;
	}
	if (!wins_anyway(&op, expected) && exchange_fails(&op, old, weak)) {
		engine_trace(site, "fails on", *old);
		return false;
	}
	exchange(&op, expected, v);
	engine_trace(site, "wins", w->value);
	return true;
}

/*
 * A full barrier of a thread, be it the kernel's: no load of its after this
 * reads what is older than the stores that were seen by any thread before a
 * full barrier of that thread's before.  It joins no clocks: nothing is passed
 * on by it, as nothing is for ThreadSanitizer.
 */
void memory_barrier(unsigned thread)
{
	for (unsigned i = 0; i < used; i++) {
		struct history *h = &histories[i];
		uint8_t seen = (uint8_t)oldest_readable(h, thread,
							EXPLORE_relaxed);

		if (seen < h->seen[BARRIERS])
			seen = h->seen[BARRIERS];
		h->seen[thread] = h->seen[BARRIERS] = seen;
	}
}

/* ---- plain data ---- */

static void freshen(struct explore_cell *c)
{
	if (c->execution == engine.execution)
		return;
	memset(c, 0, sizeof(*c));
	c->execution = engine.execution;
}

static uint16_t stamp(void)
{
	return ++engine_self()->now.at[engine.current];
}

static bool races_with_writer(const struct explore_cell *c)
{
	return engine.running &&
	       c->write_time > engine_self()->now.at[c->writer];
}

static bool races_with_reader(const struct explore_cell *c)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (c->read_time[i] > engine_self()->now.at[i])
			return true;
	return false;
}

static void check_writer(const struct explore_cell *c, const char *what)
{
	if (c->freed)
		explore_fail("%s after free", what);
	if (races_with_writer(c))
		explore_fail("data race: %s, write", what);
}

/* New memory at an old place: written by whoever made it. */
void memory_renew(struct explore_cell *c)
{
	memset(c, 0, sizeof(*c));
	c->execution = engine.execution;
	if (!engine.running)
		return;
	c->writer = (uint8_t)engine.current;
	c->write_time = stamp();
}

uint64_t explore_read(struct explore_cell *c)
{
	freshen(c);
	check_writer(c, "read");
	if (engine.running)
		c->read_time[engine.current] = stamp();
	return c->value;
}

void explore_write(struct explore_cell *c, uint64_t value)
{
	freshen(c);
	check_writer(c, "write");
	c->value = value;
	if (!engine.running)
		return;
	if (races_with_reader(c))
		explore_fail("data race: write, read");
	c->writer = (uint8_t)engine.current;
	c->write_time = stamp();
}

bool cell_races(struct explore_cell *c, bool writes)
{
	freshen(c);
	if (races_with_writer(c) || (writes && races_with_reader(c)))
		return true;
	if (!writes) {
		c->read_time[engine.current] = stamp();
		return false;
	}
	c->writer = (uint8_t)engine.current;
	c->write_time = stamp();
	return false;
}

void explore_free(struct explore_cell *c)
{
	explore_write(c, 0);
	c->freed = true;
}
