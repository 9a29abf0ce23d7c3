/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The public side of a budget.  A child's limit and guarantee are changed while
 * the keeper is held, since two words say what they are; others are asked to
 * give back while it is not.
 */
#include <errno.h>
#include <string.h>

#include "budget.h"
#include "budget_follow.h"
#include "keeper.h"
#include "options.h"
#include "os.h"
#include "seg.h"

enum { PERCENT_MOST = 100 };

static bool limit_is_valid(uint64_t bytes)
{
	return bytes >= BUDGET_UNIT && bytes <= BUDGET_MAX_BYTES;
}

/* Both in units, as they will be. */
static bool guarantee_is_valid(uint64_t bytes, uint64_t limit)
{
	return budget_units(bytes) <= budget_units(limit);
}

static int check_root(const struct seg_budget_options *o)
{
	if (o->guaranteed_bytes || o->share)
		return -EINVAL;
	return o->cgroup_percent <= PERCENT_MOST ? 0 : -ERANGE;
}

static int check_child(const struct seg_budget_options *o)
{
	if (o->cgroup_percent || o->parent->depth + 1 == BUDGET_DEPTH)
		return -EINVAL;
	return o->share <= BUDGET_SHARE_MOST &&
			       guarantee_is_valid(o->guaranteed_bytes,
						  o->limit_bytes) ?
		       0 : -ERANGE;
}

static int check_options(const struct seg_budget_options *theirs,
			 struct seg_budget_options *o)
{
	if (!options_get(o, sizeof(*o), theirs,
			 offsetof(struct seg_budget_options, parent)) ||
	    !publish_name_is_valid(o->name))
		return -EINVAL;
	if (!limit_is_valid(o->limit_bytes))
		return -ERANGE;
	return o->parent ? check_child(o) : check_root(o);
}

static bool try_guarantee(struct seg_budget *b, uint64_t bytes)
{
	bool done;

	keeper_hold();
	done = guarantee_is_valid(bytes, budget_word_limit(budget_look(b))) &&
	       budget_try_guarantee(b, bytes);
	keeper_let_go();
	if (done)
		budget_notify(b);
	return done;
}

/* What it borrows needs no room. */
static uint64_t missing_for(struct seg_budget *b, uint64_t bytes)
{
	uint64_t has = budget_guaranteed(b) + budget_borrowed(b) +
		       budget_room(b->parent);

	return bytes > has ? bytes - has : 0;
}

static void add_guarantee(void *ctx, struct seg_budget *child)
{
	uint64_t *bytes = ctx;

	*bytes += budget_guaranteed(child);
}

/* Whatever is given back: the guarantees of others are not. */
static bool is_out_of_reach(struct seg_budget *b, uint64_t bytes)
{
	uint64_t promised = 0;

	budget_each_child(b->parent, add_guarantee, &promised);
	return promised - budget_guaranteed(b) + bytes >
	       budget_limit(b->parent);
}

/* Nothing is evicted if it does without, or can't be had at all. */
static int set_guarantee(struct seg_budget *b, uint64_t bytes)
{
	if (try_guarantee(b, bytes))
		return 0;
	if (!guarantee_is_valid(bytes, budget_word_limit(budget_look(b))))
		return -ERANGE;
	if (is_out_of_reach(b, bytes))
		return -EBUSY;
	budget_give_unused(b, missing_for(b, bytes));
	if (try_guarantee(b, bytes))
		return 0;
	budget_give_reclaimed(b, missing_for(b, bytes));
	return try_guarantee(b, bytes) ? 0 : -EBUSY;
}

/* It is unlinked; it counts as a child for as long as it touches the parent. */
static void end_child(struct seg_budget *b)
{
	budget_await_visits(b);
	budget_try_guarantee(b, 0);
	budget_notify(b);
	keeper_hold();
	budget_forget_child(b->parent);
	keeper_let_go();
	os_free(b);
}

static int begin_child(struct seg_budget *b, const struct seg_budget_options *o)
{
	int ret;

	b->parent = o->parent;
	b->depth = o->parent->depth + 1;
	/* relaxed: not yet published */
	u32_store_relaxed(&b->share, o->share ? o->share : BUDGET_SHARE);
	keeper_hold();
	budget_link_child(b);
	keeper_let_go();
	ret = set_guarantee(b, o->guaranteed_bytes);
	if (ret) {
		keeper_hold();
		budget_unlink_child(b);
		keeper_let_go();
		end_child(b);
	}
	return ret;
}

static int begin_root(struct seg_budget *b, const struct seg_budget_options *o)
{
	int ret = 0;

	if (o->cgroup_percent)
		ret = budget_follow(b, "", o->cgroup_percent);
	if (ret)
		os_free(b);
	return ret;
}

static bool fill_published(struct publish_item *item, void *to)
{
	struct seg_budget *b = (void *)((char *)item -
					offsetof(struct seg_budget, published));
	struct seg_budget_stats *stats = to;

	stats->size = sizeof(*stats);
	return seg_budget_stats(b, stats) == 0;
}

static void begin_published(struct seg_budget *b, const char *name)
{
	b->published.kind = PUBLISHED_BUDGET;
	b->published.bytes = sizeof(struct seg_budget_stats);
	b->published.fill = fill_published;
	b->published.budget = b->parent ? &b->parent->published : NULL;
	publish_set_name(&b->published, name, "Budget");
	publish_add(&b->published);
}

int seg_budget_create(const struct seg_budget_options *options,
		      struct seg_budget **ret_budget)
{
	struct seg_budget_options o = { 0 };
	struct seg_budget *b;
	int ret;

	if (!ret_budget)
		return -EINVAL;
	ret = check_options(options, &o);
	if (ret)
		return ret;
	b = os_calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	/* relaxed: not yet published */
	u64_store_relaxed(&b->word,
			  budget_word(budget_units(o.limit_bytes), 0));
	ret = o.parent ? begin_child(b, &o) : begin_root(b, &o);
	if (ret)
		return ret;
	begin_published(b, o.name);
	*ret_budget = b;
	return 0;
}

/* relaxed, all: written while the keeper is held */
static bool is_used(struct seg_budget *b)
{
	/* relaxed, all: see above */
	return u64_load_relaxed(&b->member_count) != 0 ||
	       u64_load_relaxed(&b->reclaimers.count) != 0 ||
	       u64_load_relaxed(&b->child_count) != 0;
}

int seg_budget_destroy(struct seg_budget *b)
{
	bool busy;

	if (!b)
		return 0;
	keeper_hold();
	busy = is_used(b);
	if (!busy && b->parent)
		budget_unlink_child(b);
	keeper_let_go();
	if (busy)
		return -EBUSY;
	publish_remove(&b->published);
	if (b->parent) {
		end_child(b);
	} else {
		budget_unfollow(b);
		os_free(b);
	}
	return 0;
}

static bool try_limit(struct seg_budget *b, uint64_t limit_bytes)
{
	bool done;

	if (b->follower)
		return budget_follow_ceiling(b, limit_bytes) == 0;
	if (!b->parent)
		return budget_try_limit(b, limit_bytes);
	keeper_hold();
	done = budget_try_limit(b, limit_bytes);
	keeper_let_go();
	return done;
}

int seg_budget_set_limit(struct seg_budget *b, uint64_t limit_bytes)
{
	uint64_t charged;

	if (!b)
		return -EINVAL;
	if (!limit_is_valid(limit_bytes) ||
	    !guarantee_is_valid(budget_guaranteed(b), limit_bytes))
		return -ERANGE;
	if (!try_limit(b, limit_bytes)) {
		charged = budget_word_charged(budget_look(b));
		if (charged > limit_bytes)
			budget_shrink(b, charged - limit_bytes);
		keeper_help();	/* that may be on its way */
		if (!try_limit(b, limit_bytes))
			return -EBUSY;
	}
	budget_notify(b);
	return 0;
}

int seg_budget_set_guarantee(struct seg_budget *b, uint64_t guaranteed_bytes)
{
	if (!b || !b->parent)
		return -EINVAL;
	return set_guarantee(b, guaranteed_bytes);
}

int seg_budget_set_share(struct seg_budget *b, unsigned share)
{
	if (!b || !b->parent)
		return -EINVAL;
	if (share > BUDGET_SHARE_MOST)
		return -ERANGE;
	/* relaxed: a number */
	u32_store_relaxed(&b->share, share ? share : BUDGET_SHARE);
	return 0;
}

static void add_held(void *ctx, struct seg_budget *child)
{
	uint64_t *bytes = ctx;

	*bytes += budget_guaranteed(child) + budget_borrowed(child);
}

static void fill_reclaimers(struct seg_budget *b, struct seg_budget_stats *s)
{
	/* relaxed, all of these: counters; some join and leave meanwhile */
	uint64_t added = u64_load_relaxed(&b->reclaimers.added);
	uint64_t count = u64_load_relaxed(&b->reclaimers.count);

	s->caches = count > added ? count - added : 0;
	s->reclaimers = added;
}

static void fill_tree(struct seg_budget *b, struct seg_budget_stats *s)
{
	uint64_t held = 0;

	budget_each_child(b, add_held, &held);
	/* read one by one: for a moment, children may seem to hold more */
	s->own_charged_bytes = s->charged_bytes > held ?
				       s->charged_bytes - held : 0;
	s->guaranteed_bytes = budget_guaranteed(b);
	s->borrowed_bytes = budget_borrowed(b);
	/* relaxed, both: numbers */
	s->children = u64_load_relaxed(&b->child_count);
	s->share = u32_load_relaxed(&b->share);
	s->cgroup_bytes = budget_followed(b);
}

int seg_budget_stats(struct seg_budget *b, struct seg_budget_stats *ret_stats)
{
	struct seg_budget_stats s = { .size = sizeof(s) };
	uint64_t word;

	if (!b || !result_is_valid(ret_stats))
		return -EINVAL;
	word = budget_look(b);
	s.limit_bytes = budget_word_limit(word);
	s.charged_bytes = budget_word_charged(word);
	/* relaxed, all of these: counters */
	s.peak_charged_bytes = u64_load_relaxed(&b->peak_units) * BUDGET_UNIT;
	s.charge_refusals_total = u64_load_relaxed(&b->refusals);
	s.deferred_bytes = budget_deferred_below(b);
	s.waiters = u32_load_relaxed(&b->waiters);
	s.waits_total = u64_load_relaxed(&b->waits);
	s.pools = u64_load_relaxed(&b->member_count);
	s.reclaims_total = u64_load_relaxed(&b->reclaimers.asked);
	s.reclaimed_bytes_total = u64_load_relaxed(&b->reclaimers.given_bytes);
	fill_reclaimers(b, &s);
	fill_tree(b, &s);
	result_put(ret_stats, &s, sizeof(s));
	return 0;
}
