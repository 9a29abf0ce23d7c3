/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages move to the node of those who read them, in a cache with migrate_after.
 *
 * Who takes the last pin off counts: in the page stand its node, the node of
 * the last reader and how many times in a row that was it.  All of this is
 * advice, written only if it changes, so a page that is read where it lies is
 * only looked at.  Whoever finds that a page is due pins it again and moves it.
 *
 * The page stays the same object under the same entry, with the same weight:
 * its parts become other segments of the same classes.
 * (M1) What is copied is whole, and is all that there is: from
 * entry_move_begin() to entry_move_commit() the mover has the only pin (E6), so
 * nobody writes to the page; who comes in between gets his pin at once and
 * ends the move.  (That a copy which is thrown away was read while that one
 * wrote does no harm.)  The entry is live and pinned all the time: nobody can
 * evict or take it, and who removes or replaces it before the commit ends the
 * move, too; after it that entry has the new parts when it leaves.
 * (M2) Who has a pin never finds an old part: who pins after the commit either
 * sees that it is moving, and lets the page arrive itself before it goes on,
 * or that the move has ended (release -> acquire on the word), before which
 * the mover did so.  It is a few stores of what was written down before the
 * commit, the same by all who do them, and a next move can't begin as long as
 * one of them has its pin.  So nobody waits for the mover.
 * (M3) Old parts are released when nobody can look at them: at the commit the
 * mover had the only pin; and with short_reads after a grace period, since who
 * peeks may have found them.
 * (P8) They are the relocation's from relocation_finish() on, which is before
 * the mover gives its pin back and thus before anybody releases the page.
 *
 * Lock-free, and bounded: one page is copied at most for one unpin, memory is
 * had without pains or not at all, and if not, then nobody tries again in this
 * cache for a while.
 */
#include "cache.h"

#include "cache_leave.h"
#include "os.h"
#include "page_relocate.h"
#include "topology.h"

enum { REST_NS = 100 * 1000 * 1000 };

/* ---- what stands in a page ---- */

/* Nodes are the system's; -1: not known. */
struct reads {
	int home;
	int last;
	uint32_t run;
};

static uint64_t reads_word(struct reads r)
{
	return (uint64_t)r.run << 32 | (uint64_t)(uint16_t)(r.last + 1) << 16 |
	       (uint16_t)(r.home + 1);
}

static struct reads reads_of(uint64_t word)
{
	return (struct reads){
		.home = (int)(word & UINT16_MAX) - 1,
		.last = (int)(word >> 16 & UINT16_MAX) - 1,
		.run = (uint32_t)(word >> 32),
	};
}

/* One more, from there. */
static struct reads reads_after(struct reads r, int node)
{
	if (node == r.home)
		return (struct reads){ .home = r.home, .last = -1 };
	if (node != r.last)
		r.run = 0;
	r.run += r.run < UINT32_MAX;
	r.last = node;
	return r;
}

/* The thread's, or the nearest that has memory for us. */
static bool reading_node(int *ret_node)
{
	unsigned near;

	if (!topology_has_many() || !topology_near(topology_here(), 0, &near))
		return false;
	*ret_node = topology_id(near);
	return true;
}

/* ---- the move ---- */

/* By the keeper. */
static bool old_parts_rest(struct work *work)
{
	struct seg_page *carrier = (void *)((char *)work -
			offsetof(struct seg_page, carrier.work));
	struct seg_cache *c = carrier->carrier.ctx;
	uint64_t bytes = 0;

	if (cache_is_foreign(c))
		return true;
	for (unsigned i = 0; i < SEG_PAGE_PARTS; i++)
		bytes += carrier->bytes[i];
	relocation_carried(carrier);
	u64_sub_relaxed(&c->deferred, bytes); /* relaxed: a sum */
	return true;
}

/* Now, or when those who peek have gone. */
static void leave_old_parts(struct seg_cache *c, struct relocation *m)
{
	struct seg_page *carrier;

	if (!c->short_reads) {
		relocation_end(m);
		return;
	}
	carrier = relocation_defer(m);
	carrier->carrier.work.run = old_parts_rest;
	carrier->carrier.ctx = c;
	u64_add_relaxed(&c->deferred, m->bytes); /* relaxed: a sum */
	keeper_defer(&carrier->carrier.work);
}

static bool may_try(struct seg_cache *c)
{
	/* relaxed: a hint */
	uint64_t at_ns = u64_load_relaxed(&c->migrate_at_ns);

	return !at_ns || os_now_ns() >= at_ns;
}

static bool refused(struct seg_cache *c)
{
	cache_count(c, COUNT_MIGRATIONS_REFUSED);
	return false;
}

/* By who has pinned it; there is memory for it. */
static bool move(struct seg_cache *c, struct cache_entry *e, uint64_t version,
		 struct relocation *m)
{
	if (!entry_move_begin(e, version))
		return false;
	relocation_copy(m);
	if (!entry_move_commit(e, version))
		return false;
	page_arrive(m->page);
	relocation_finish(m);
	entry_move_end(e);
	cache_count(c, COUNT_MIGRATIONS);
	/* relaxed: counter */
	u64_add_relaxed(&c->count[COUNT_MIGRATED_BYTES], m->bytes);
	return true;
}

/* By who has pinned it.  False: it stays. */
static bool migrate(struct seg_cache *c, struct cache_entry *e,
		    uint64_t version, struct seg_page *page, int node)
{
	struct relocation m;

	if (!may_try(c))
		return false;
	if (!relocation_begin(&m, page, node, c->short_reads)) {
		/* relaxed: a hint */
		u64_store_relaxed(&c->migrate_at_ns, os_now_ns() + REST_NS);
		return refused(c);
	}
	if (!move(c, e, version, &m)) {
		relocation_end(&m);
		return refused(c);
	}
	leave_old_parts(c, &m);
	return true;
}

/* ---- who notices ---- */

/* Pinned: the page may be looked at. */
static void visit(struct seg_cache *c, struct cache_entry *e, uint64_t version,
		  struct reads r)
{
	/* relaxed: the pin acquired it */
	struct seg_page *page = ptr_load_relaxed(&e->value);

	r.home = page_node(page);
	if (r.home == r.last) {
		r.run = 0;
	} else if (r.run >= c->migrate_after) {
		if (migrate(c, e, version, page, r.last))
			r.home = r.last;
		r.run = 0;
	}
	u64_store_relaxed(&page->reads, reads_word(r)); /* relaxed: advice */
}

/* False: it ended, or is pinned again. */
static bool pin_alone(struct seg_cache *c, struct cache_entry *e,
		      uint64_t version)
{
	uint64_t word = version << ENTRY_VERSION_SHIFT | ENTRY_LIVE;

	if (entry_pins(entry_look(e)) || !entry_pin(e, &word))
		return false;
	cache_weigh_pin(c, entry_pins(word) == 1 ? entry_weight(e) : 0);
	return true;
}

/* The page may be gone, or be another's by now: then this is a count too many
 * or too few. */
void cache_was_read(struct seg_cache *c, struct cache_entry *e,
		    uint64_t version)
{
	uint64_t word = version << ENTRY_VERSION_SHIFT | ENTRY_LIVE;
	struct seg_page *page = cache_index_value(e, word);
	struct reads r;
	uint64_t old;
	int node;

	if (!page || !reading_node(&node))
		return;
	old = u64_load_relaxed(&page->reads); /* relaxed: advice */
	r = reads_after(reads_of(old), node);
	if (r.home >= 0 && r.run < c->migrate_after) {
		if (reads_word(r) != old)
			/* relaxed: advice; a failure is another's count */
			u64_cas_strong_relaxed(&page->reads, &old,
					       reads_word(r));
		return;
	}
	if (!pin_alone(c, e, version))
		return;
	visit(c, e, version, r);
	cache_unpin(c, e, version);
}

bool cache_join(struct cache_entry *e, uint64_t *word)
{
	if (!entry_join(e, word))
		return false;
	if (*word & ENTRY_MOVING)
		page_arrive(ptr_load_relaxed(&e->value)); /* relaxed: pinned */
	return true;
}
