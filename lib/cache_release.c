/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_release.h. */
#include "cache_release.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include "assert.h"
#include "page.h"

/* A thread is in the listener of that cache; on its stack. */
struct frame {
	struct seg_cache *cache;
	struct frame *outer;
	struct cache_record *dying;	/* with values; linked by next */
	bool again;			/* cache_relieve() is to be called */
};

#ifdef SEG_EXPLORE
#define frames (*explore_frames())
#else
static _Thread_local struct frame *frames;
#endif

static const char *const cause_names[] = {
	[SEG_CAUSE_EVICTED] = "EVICTED",
	[SEG_CAUSE_RECLAIMED] = "RECLAIMED",
	[SEG_CAUSE_SHRUNK] = "SHRUNK",
};

void cache_push_returned(struct seg_cache *c, struct cache_record *r)
{
	/* relaxed: only compared and linked to, never followed here */
	void *first = ptr_load_relaxed(&c->returned);

	do {
		r->next = first;
		/* release -> drain(); retries when another pushed or drained */
	} while (!ptr_cas_weak_release(&c->returned, &first, r));
}

static void release_value(struct seg_cache *c, const struct departed *d)
{
	if (d->cause <= SEG_CAUSE_SHRUNK && log_wants(&c->log, SEG_LOG_EVICT))
		log_event(&c->log, SEG_LOG_EVICT,
			  "%s EVICT: returning page %llu, cause=%s", c->name,
			  (unsigned long long)d->key, cause_names[d->cause]);
	if (c->listener)
		c->listener(c->listener_ctx, d->key, d->value, d->weight,
			    (enum seg_cause)d->cause);
	if (c->pages && !page_release(d->value, PAGE_CACHE))
		seg_die("a cache's page has another owner: memory corrupted");
}

static void release_dying(struct seg_cache *c, struct frame *frame)
{
	while (frame->dying) {
		struct cache_record *r = frame->dying;
		struct departed d = entry_departs(record_entry(r),
						 record_cause(r));

		frame->dying = r->next;
		cache_push_returned(c, r);
		release_value(c, &d);
		cache_count(c, COUNT_RELEASED);
	}
}

bool cache_release_values(struct seg_cache *c, const struct departed *list,
			  unsigned count)
{
	struct frame frame = { .cache = c, .outer = frames };
	int saved = errno;
	int before;

	/* Cancelled in between, a value would be lost. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	frames = &frame;
	for (unsigned i = 0; i < count; i++)
		release_value(c, &list[i]);
	/* relaxed: counter */
	u64_add_relaxed(&c->count[COUNT_RELEASED], count);
	release_dying(c, &frame);
	frames = frame.outer;
	pthread_setcancelstate(before, &before);
	errno = saved;
	return frame.again;
}

static struct frame *frame_of(const struct seg_cache *c)
{
	struct frame *frame = frames;

	while (frame && frame->cache != c)
		frame = frame->outer;
	return frame;
}

bool cache_release_later(struct seg_cache *c, struct cache_record *r)
{
	struct frame *frame = frame_of(c);

	if (!frame)
		return false;
	r->next = frame->dying;
	frame->dying = r;
	return true;
}

bool cache_relieve_later(struct seg_cache *c)
{
	struct frame *frame = frame_of(c);

	if (frame)
		frame->again = true;
	return frame != NULL;
}
