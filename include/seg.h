/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libseg: page buffers of 4 to 256 KiB from regions that are mapped on
 * demand, under one hard memory budget, and given back when unused.
 *
 * Errors:  an int is 0 or a negative errno that the function lists; errno is
 *          left alone.  A ret_ parameter is set only on success.  seg_alloc*()
 *          give NULL and set errno.  seg_release*() preserve errno.
 * Threads: MT-Safe unless said otherwise.  A destroy is the last call on its
 *          object: no other call may be running on it or come after it, unless
 *          it returned an error, which leaves the object as it was.
 * Progress: "lock-free" is from a thread's second call on.  The first call of a
 *          thread on any pool registers it with liburcu, under a lock of that
 *          library, which ends the process if it gets no memory for that; and
 *          makes a place for the thread's caches, under a lock, if it gets
 *          memory.  A thread that ends gives back what is in these.
 * Signals: no function is async-signal-safe unless said.  None is a
 *          cancellation point.
 * Fork:    see seg(7); seg_alloc*() and seg_release*() go on working in the
 *          child, with the copies that the child has.
 * Structs: the first member is the size that the caller knows.  Options: less
 *          than the first release's is an error, more must be zero.
 * Owner:   who creates destroys; a budget after its pools and caches, a pool
 *          after the caches of its pages.  Options are copied.
 *          Zero in an option means its default.
 * Sizes:   bytes, unless the name says otherwise.
 */
#ifndef SEG_H
#define SEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#ifdef __GNUC__		/* a function may have the name of its struct */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
#endif

#if defined(__GNUC__)
#define SEG_API __attribute__((visibility("default")))
#define SEG_NODISCARD __attribute__((warn_unused_result))
#define SEG_ALIGNED __attribute__((assume_aligned(4096)))
#else
#define SEG_API
#define SEG_NODISCARD
#define SEG_ALIGNED
#endif

#define SEG_CLASSES 7		/* 4, 8, 16, 32, 64, 128, 256 KiB */
#define SEG_MIN_BYTES 4096	/* class 0 */
#define SEG_MAX_BYTES 262144	/* class 6 */
#define SEG_PAGE_PARTS 4	/* segments that a page may own */
#define SEG_NO_WAIT (-1)	/* wait_ms: refuse at once at the limit */
#define SEG_ALL (-1)		/* a node or class number: all of them */

struct timespec;	/* C99 proper does not declare it */

struct seg_budget;
struct seg_pool;
struct seg_page;
struct seg_txlog;
struct seg_cache;

/* ---------------------------------------------------------------- version */

/*
 * The version of the library that is running, as "major.minor.patch".
 * Owner: a constant.  MT-Safe, async-signal-safe, wait-free.
 */
SEG_API const char *seg_version(void);

/* ----------------------------------------------------------------- budget */

struct seg_budget_options {
	size_t size;		/* sizeof(struct seg_budget_options) */
	uint64_t limit_bytes;	/* 4 KiB to 16 TiB - 4 KiB, in 4 KiB steps */
	struct seg_budget *parent;	/* outlives it; NULL: a root */
	uint64_t guaranteed_bytes;	/* a child's, up to its limit; in 4 KiB
					   steps */
	unsigned share;		/* a child's, of what is borrowed: a weight of
				   1 to 10000; 0: 100 */
	unsigned cgroup_percent;	/* a root's limit is at most so much of
					   the control group's; 0: off */
	const char *name;	/* for segstat(1), 31 bytes; NULL: Budget */
};

struct seg_budget_stats {
	size_t size;			/* sizeof(struct seg_budget_stats) */
	uint64_t limit_bytes;		/* what may be charged */
	uint64_t charged_bytes;		/* never above the limit */
	uint64_t peak_charged_bytes;	/* the most that ever was, with what
					   children hold of it */
	uint64_t deferred_bytes;	/* about to be unmapped, children's
					   included */
	uint64_t charge_refusals_total;	/* times that a region of its own pools
					   did not fit */
	uint64_t waiters;		/* threads that wait at the limit now;
					   a root's: of the whole tree */
	uint64_t waits_total;		/* allocations of its own pools that
					   had to wait; no child's */
	uint64_t pools;			/* pools that share the budget */
	uint64_t caches;		/* caches that give back to it */
	uint64_t reclaims_total;	/* times that its own caches and
					   reclaimers, or what there is of
					   them, were asked to */
	uint64_t reclaimed_bytes_total;	/* that these say they gave */
	uint64_t own_charged_bytes;	/* of charged: by its own pools; the
					   rest is children's */
	uint64_t guaranteed_bytes;	/* a child's */
	uint64_t borrowed_bytes;	/* what a child holds beyond that */
	uint64_t children;
	uint64_t share;			/* a child's */
	uint64_t cgroup_bytes;		/* the control group's limit, as it was
					   read last; 0: none */
	uint64_t reclaimers;		/* seg_budget_add_reclaimer()'s */
};

/*
 * Makes a budget: one atomic limit on the bytes that all pools sharing it may
 * have charged, at every instant.
 * With a parent, what is charged here is charged there, too, all the way to the
 * root; but for the guaranteed bytes, which the parent is charged for now: they
 * can be had whatever others under the parent do.  What a child charges beyond
 * its guarantee is borrowed.  Under pressure, others that borrow more than
 * their share of all that is borrowed are asked to give back.
 * With cgroup_percent, a thread of the library reads the limit of the process's
 * control group every second, and sets the budget's to the lower of limit_bytes
 * and that part of it.  Where more is charged, unused memory and caches give
 * back in that thread, and nothing is added until it fits.  No control group,
 * none that has a limit, or none that can be read: limit_bytes counts.
 * Errors: -EINVAL options NULL, of a size that is too short or (where the
 * surplus is not zero) too long, ret_budget NULL, a guarantee or a share with
 * no parent, cgroup_percent with one, a parent at the 8th level, a name that is
 * too long; -ERANGE the
 * limit is below 4 KiB or above 16 TiB - 4 KiB, the guarantee above the limit,
 * the share above 10000, the percentage above 100; -EBUSY the parent has no
 * room for the guarantee; -ENOMEM; -EAGAIN no thread to be had.
 * Owner: the caller, who destroys it after its pools, caches and children.
 * Blocking; with a guarantee, reclaimers may run in this thread.
 */
SEG_API SEG_NODISCARD int
seg_budget_create(const struct seg_budget_options *options,
		  struct seg_budget **ret_budget);

/*
 * Ends a budget; a child's guarantee goes back to its parent.  NULL is a no-op.
 * Errors: -EBUSY pools, caches, reclaimers or children still use it; nothing
 * changed.  Blocking.  Not from a reclaimer, a listener or a log callback.
 */
SEG_API int seg_budget_destroy(struct seg_budget *budget);

/*
 * Sets the limit.  Raising wakes those who wait.  Lowering never leaves more
 * charged than allowed: unused memory of its pools and children is given up
 * first, then their reclaimers are asked, in this thread; and if that does not
 * do at once the old limit stays.
 * Errors: -EINVAL budget NULL; -ERANGE as in create, or below the guarantee;
 * -EBUSY more is charged than the new limit, guarantees of children included;
 * what was given back stays so (regions retired meanwhile are unmapped soon:
 * try again).
 * Lock-free for a root, but for what reclaimers do; blocking for a child, whose
 * limit is not to be set from a log callback.
 */
SEG_API int seg_budget_set_limit(struct seg_budget *budget,
				 uint64_t limit_bytes);

/*
 * Sets a child's guarantee.  Raising takes what the child borrows first, then
 * room of the parent, which is made in this thread: all but the child are asked
 * for unused memory, and only if that does not do for what reclaimers hold.
 * Lowering leaves what is charged as borrowed.  While it is changed, what moves
 * can't be charged for a moment: an allocation of the child that does not wait
 * may be refused then.
 * Errors: -EINVAL budget NULL or a root; -ERANGE above the limit; -EBUSY the
 * parent has no room for it, and the old guarantee stays.  What was given back
 * in vain stays so; nothing is, if other guarantees leave too little anyway.
 * Blocking.  Not from a log callback.
 */
SEG_API int seg_budget_set_guarantee(struct seg_budget *budget,
				     uint64_t guaranteed_bytes);

/*
 * Sets a child's share, 1 to 10000; 0: 100.  It counts from the next time on
 * that somebody is asked to give back.
 * Errors: -EINVAL budget NULL or a root; -ERANGE above 10000.  Wait-free.
 */
SEG_API int seg_budget_set_share(struct seg_budget *budget, unsigned share);

/*
 * Fills ret_stats, whose size the caller has set.  limit and charged are one
 * consistent pair (but while a guarantee is changed: then both may be off by
 * the same number for a moment); the rest is read one by one.
 * Errors: -EINVAL budget or ret_stats NULL, or a size that is not valid.
 * Lock-free; wait-free for a root without children.
 */
SEG_API int seg_budget_stats(struct seg_budget *budget,
			     struct seg_budget_stats *ret_stats);

/* ------------------------------------------------------- events and misuse */

enum seg_log_level {
	SEG_LOG_DEFAULT = 0,	/* as SEG_LOG_REGION */
	SEG_LOG_OFF = 1,
	SEG_LOG_ERROR = 2,	/* refusals, misuse, failed system calls */
	SEG_LOG_REGION = 3,	/* and: regions mapped and unmapped */
	SEG_LOG_EVICT = 4,	/* and: each value that a cache evicts */
	SEG_LOG_SEGMENT = 5	/* and: each allocate and release (slow) */
};

/*
 * Receives one line without a newline.  Called in the thread that caused it,
 * or in the library's own, outside read sections, and can't be cancelled.  It
 * may allocate, release and ask, but not create, destroy, trim, drain or check
 * (seg_pool_is_valid()) anything, nor fork, nor wait for a lock that another
 * thread holds while it does so: the library's own thread may be in the middle
 * of its work.  An event of its own making is not reported again.
 */
typedef void seg_log_fn(void *ctx, enum seg_log_level level, const char *line);

/* What was wrong with a release or a page; a closed list. */
enum seg_misuse {
	SEG_MISUSE_DOUBLE = 1,	/* the segment or page is not handed out */
	SEG_MISUSE_FOREIGN = 2,	/* the address is in no region of this pool */
	SEG_MISUSE_INTERIOR = 3,/* not the first byte of a segment */
	SEG_MISUSE_STALE = 4,	/* the handle is of an earlier owner */
	SEG_MISUSE_UNMAPPED = 5,/* the region was given back to the kernel */
	SEG_MISUSE_OWNER = 6	/* the page is owned by a log or a cache */
};

/* Receives each detected misuse; same rules as seg_log_fn. */
typedef void seg_misuse_fn(void *ctx, enum seg_misuse what,
			   const void *address);

/* ------------------------------------------------------------------- pool */

/*
 * Which memory node a segment comes from; see seg_numa(7).  A node is one that
 * the process may use, now; a thread's is the nearest of these to its CPU.
 */
enum seg_policy {
	SEG_POLICY_DEFAULT = 0,	/* a call's: as the pool; a pool's: LOCAL */
	SEG_POLICY_LOCAL = 1,	/* the thread's node, else the nearest to it
				   that has room */
	SEG_POLICY_STRICT = 2,	/* the thread's node, or ENOMEM */
	SEG_POLICY_PREFERRED = 3,	/* the named node, else the nearest */
	SEG_POLICY_INTERLEAVE = 4,	/* all of them in turn, else the
					   nearest to that */
	SEG_POLICY_NODE = 5	/* the named node, or ENOMEM */
};

/* What the kernel is told about huge pages (2 MiB) for regions; see seg(7). */
enum seg_huge_pages {
	SEG_HUGE_PAGES_DEFAULT = 0,	/* as SEG_HUGE_PAGES_ASK */
	SEG_HUGE_PAGES_SYSTEM = 1,	/* nothing: as the system is set */
	SEG_HUGE_PAGES_ASK = 2,		/* welcome where all is charged */
	SEG_HUGE_PAGES_NEVER = 3
};

/* What the library's thread does when the regions of a class run low. */
enum seg_ahead {
	SEG_AHEAD_DEFAULT = 0,	/* as SEG_AHEAD_NONE */
	SEG_AHEAD_NONE = 1,	/* nothing: who needs a region maps it */
	SEG_AHEAD_MAP = 2,	/* maps the next one */
	SEG_AHEAD_BACK = 3	/* maps it and has the kernel back it */
};

struct seg_pool_options {
	size_t size;			/* sizeof(struct seg_pool_options) */
	struct seg_budget *budget;	/* required; outlives the pool */
	uint64_t region_bytes;		/* the largest region: a power of two,
					   4 KiB to 64 MiB; 0: 64 MiB */
	unsigned decay_ms;		/* an all-unused region is unmapped
					   within this time; 0: 1000 */
	int wait_ms;			/* how long seg_alloc() waits at the
					   limit; 0: 100; SEG_NO_WAIT: not */
	seg_log_fn *log;		/* NULL: no events */
	void *log_ctx;
	enum seg_log_level log_level;
	seg_misuse_fn *misuse;		/* NULL: counted and returned only */
	void *misuse_ctx;
	enum seg_policy policy;		/* 0: SEG_POLICY_LOCAL */
	int node;			/* of a policy that names one */
	uint64_t node_limit_bytes;	/* each node gets a budget of its own,
					   a child of the pool's; 0: none */
	unsigned tail_bytes;		/* so many behind each segment can be
					   read, too; 0 to 4096 */
	const char *name;		/* for segstat(1), 31 bytes; NULL:
					   Pool */
	unsigned publish;		/* 1: while the pool exists, segstat(1)
					   can read the figures of all budgets,
					   pools and caches of the process */
	unsigned no_thread;		/* 1: none; call seg_upkeep() */
	enum seg_huge_pages huge_pages;	/* 0: SEG_HUGE_PAGES_ASK */
	enum seg_ahead ahead;		/* 0: SEG_AHEAD_NONE */
};

/*
 * Figures of one class on one node, or sums over SEG_ALL.
 * When no other thread is in a call:
 * active + cached + unused + decommitted = slices,
 * allocations_total - releases_total = active,
 * mapped = the bytes of the regions + deferred = charged + decommitted (where
 * what is decommitted of deferred regions counts, too).
 */
struct seg_pool_stats {
	size_t size;			/* sizeof(struct seg_pool_stats) */
	uint64_t active;		/* segments handed out */
	uint64_t cached;		/* slices parked in per-thread caches,
					   charged; see seg(7) */
	uint64_t unused;		/* slices ready to be taken */
	uint64_t slices;		/* all slices of the regions in use */
	uint64_t active_bytes;
	uint64_t regions;		/* regions in use */
	uint64_t spare_regions;		/* of these: all slices unused */
	uint64_t deferred_regions;	/* retired, not yet unmapped */
	uint64_t deferred_bytes;
	uint64_t mapped_bytes;		/* address space, deferred included */
	uint64_t charged_bytes;		/* against the budget */
	uint64_t peak_mapped_bytes;
	uint64_t metadata_bytes;	/* the library's own */
	uint64_t allocations_total;
	uint64_t releases_total;
	uint64_t refusals_total;	/* allocations refused with ENOMEM */
	uint64_t regions_mapped_total;
	uint64_t regions_retired_total;
	uint64_t regions_unmapped_total;
	uint64_t misuses_total;		/* only in the sum over all classes and
					   nodes */
	uint64_t decommitted;		/* slices neither charged nor backed */
	uint64_t decommitted_bytes;
	/* Only in sums over all classes, and 0 where there is one node: */
	uint64_t remote_allocations_total;	/* by threads of another node */
	uint64_t remote_releases_total;		/* as well */
	uint64_t fallbacks_total;	/* had here, wanted elsewhere */
	uint64_t foreign_total;		/* wanted here, had elsewhere */
	uint64_t regions_ahead_total;	/* in all: mapped ahead */
};

/*
 * Makes a pool: all seven classes, all nodes, one budget.  Maps no region.
 * The first pool of a process starts the library's one thread, the last one
 * ends it; those with no_thread don't count.
 * Errors: -EINVAL options or ret_pool NULL, a size that is not valid, no
 * budget, an option out of its range or a node that there never was, or with
 * node_limit_bytes a budget at the 8th level; -ERANGE node_limit_bytes is none
 * that a budget may have; -ENOMEM; -EAGAIN no thread to be had.
 * Owner: the caller.  Blocking.
 */
SEG_API SEG_NODISCARD int
seg_pool_create(const struct seg_pool_options *options,
		struct seg_pool **ret_pool);

/*
 * Ends a pool, with all per-thread caches, and unmaps its regions.  NULL is a
 * no-op.
 * Errors: -EBUSY segments, pages or intent logs are still out, an allocation
 * waits at the limit (it goes on waiting), or a region could not be unmapped:
 * the pool goes on working (idle regions were retired);
 * -EDEADLK the caller is in a read section (seg_read_begin()).
 * Blocking: waits for a grace period, and for threads that are just ending.
 */
SEG_API int seg_pool_destroy(struct seg_pool *pool);

/*
 * Empties the per-thread caches, but for those of threads that are stopped in
 * the middle of a call, retires every all-unused region now, and waits until
 * the kernel has them.  ret_bytes (may be NULL) gets what this call retired.
 * Errors: -EINVAL pool NULL; -EDEADLK the caller is in a read section.
 * Blocking: waits for a grace period.
 */
SEG_API int seg_pool_trim(struct seg_pool *pool, uint64_t *ret_bytes);

/*
 * The library's own thread retires and unmaps regions, takes back what idle
 * threads have cached, releases what caches deferred.  A process in which no
 * pool or cache needs that thread, since all have no_thread, does this here,
 * four times in the shortest decay_ms at least; whoever is at the limit does
 * so, too, until others' read sections have ended, whatever its deadline.
 * Calls log and cache listener functions.
 * ret_ms (may be NULL) gets in how many ms there may be something to do again;
 * UINT_MAX: not before something is released, or the thread does it.
 * Errors: -EDEADLK the caller is in a read section.
 * Blocking: waits for a grace period, but not for another thread in here.
 */
SEG_API int seg_upkeep(unsigned *ret_ms);

/*
 * From now on no_thread means nothing: the library's thread runs while a pool
 * or cache exists.  For who did without while the process had one thread only.
 * Errors: -EAGAIN no thread to be had; -EDEADLK the caller is in a read
 * section, or in a callback of the library's work; all is as before.  Blocking.
 */
SEG_API int seg_upkeep_start(void);

/* A region that few segments keep. */
struct seg_sparse_region {
	void *base;
	uint64_t region;	/* as in struct seg_handle */
	uint64_t bytes;		/* of address space */
	uint64_t class_index;
	uint64_t active_bytes;	/* of its segments: they keep it.  Of these: */
	uint64_t pinned_bytes;	/* ... pinned in caches */
	uint64_t cached_bytes;	/* ... in caches, unpinned, but kept by them;
				   the rest is callers' and logs' */
};

#define SEG_SPARSE_MOST 8

/* What a drain freed, and what it could not, and why. */
struct seg_drain {
	size_t size;		/* sizeof(struct seg_drain) */
	uint64_t retired_bytes;	/* charge of the regions that went */
	uint64_t decommitted_bytes;/* charge of unused slices of the others */
	uint64_t evicted_bytes;	/* what caches gave back for it */
	uint64_t kept_regions;	/* regions that are left ... */
	uint64_t kept_bytes;	/* ... what they charge ... */
	uint64_t active_bytes;	/* ... and what of that is handed out */
	uint64_t sparse_regions;/* of these: sparse ones ... */
	uint64_t sparse_bytes;	/* ... what is handed out in them.  Of that: */
	uint64_t pinned_bytes;	/* ... as in struct seg_sparse_region */
	uint64_t cached_bytes;
	uint64_t error;		/* errno of the last system call that failed
				   meanwhile; 0: none did */
	struct seg_sparse_region sparsest[SEG_SPARSE_MOST];
};

/*
 * Gives back all that can be given back, and says what keeps the rest: regions
 * that are all unused go as in seg_pool_trim(); caches evict the unpinned pages
 * that lie in sparse regions, those of which at most sparse_percent (0 to 100)
 * of the slices are handed out, so that these may go, too; what is unused in
 * all others is uncharged, its backing given to the kernel.  0 evicts nothing.
 * ret_drain may be NULL, else its size is set by the caller; the first
 * SEG_SPARSE_MOST of the sparse regions, sparsest first, are in it.
 * Errors: -EINVAL pool NULL, sparse_percent above 100, a size that is not
 * valid; -EDEADLK the caller is in a read section; -ENOMEM.
 * What the kernel refuses is no error, but stays charged: see error.
 * Blocking: waits for grace periods.  Other threads may go on meanwhile.
 */
SEG_API int seg_pool_drain(struct seg_pool *pool, unsigned sparse_percent,
			   struct seg_drain *ret_drain);

/*
 * Fills ret_stats, whose size the caller has set, for one node number and one
 * class 0 to 6, or SEG_ALL for either.
 * Errors: -EINVAL a NULL, no such node or class, a size that is not valid.
 * Lock-free; time grows with the number of regions and of threads.
 */
SEG_API int seg_pool_stats(struct seg_pool *pool, int node, int class_index,
			   struct seg_pool_stats *ret_stats);

/*
 * Writes the figures of all nodes, sums and each class, as one JSON object
 * without a newline: the names of the members, and "version": 1; where there
 * are several nodes, the sums of each, too.  Cut to bytes with the terminating
 * zero.  Returns the length of the whole, as snprintf(): not below bytes means
 * that it was cut.  buffer may be NULL if bytes is 0.
 * Errors: -EINVAL pool NULL, or buffer NULL.  Lock-free; as seg_pool_stats().
 */
SEG_API int seg_pool_stats_json(struct seg_pool *pool, char *buffer,
				size_t bytes);

/*
 * The same in the text format of Prometheus: seg_* metrics by class, those of
 * calls that crossed nodes by node if there are several, with the label
 * pool="name".  Only bytes 0x20 to 0x7e of the name count.
 * Returns the length of the whole, as above.
 * Errors: -EINVAL pool or name NULL, or buffer NULL.  Lock-free.
 */
SEG_API int seg_pool_stats_prometheus(struct seg_pool *pool, const char *name,
				      char *buffer, size_t bytes);

/*
 * Walks everything and checks the equations above, each free list, what is
 * cached, each generation and the table.  Only meaningful while no other thread
 * is in a call on the pool; then false means that memory was corrupted.
 * Time grows with the number of slices.  Blocking: the library's own thread
 * is held up meanwhile, and must not be in the middle of something.
 */
SEG_API bool seg_pool_is_valid(struct seg_pool *pool);

/* --------------------------------------------------------------- segments */

/*
 * Gives a segment of at least the given bytes: the whole class is the
 * caller's, seg_size() of it, aligned to 4 KiB.  Its contents are undefined:
 * what the last owner left, or zeros (see seg_alloc_zeroed()).
 * At the limit it waits as the pool's wait_ms says.
 * Errors: NULL and errno = EINVAL pool NULL, bytes 0 or above SEG_MAX_BYTES;
 * ENOMEM nothing came free in time, or the kernel gave no memory.
 * Owner: the caller, who calls seg_release() once, in any thread.
 * Wait-free while the thread's cache serves it, else lock-free, but for the
 * wait at the limit.  Not async-signal-safe.
 * No alloc_size attribute: all of seg_size() may be used.
 */
SEG_API SEG_NODISCARD SEG_ALIGNED void *
seg_alloc(struct seg_pool *pool, size_t bytes);

/* As seg_alloc(), with all seg_size() bytes zero. */
SEG_API SEG_NODISCARD SEG_ALIGNED void *
seg_alloc_zeroed(struct seg_pool *pool, size_t bytes);

/*
 * As seg_alloc(), from the given node and no other: SEG_POLICY_NODE.
 * Errors: also EINVAL, no node that the process ever might use; ENOMEM, it may
 * not use it now.
 */
SEG_API SEG_NODISCARD SEG_ALIGNED void *
seg_alloc_on(struct seg_pool *pool, size_t bytes, int node);

/*
 * As seg_alloc(), but waits at the limit until the given time of
 * CLOCK_MONOTONIC.  A time in the past never waits.
 * Errors: also EINVAL, deadline NULL or tv_nsec out of range.
 */
SEG_API SEG_NODISCARD SEG_ALIGNED void *
seg_alloc_until(struct seg_pool *pool, size_t bytes,
		const struct timespec *deadline);

/* How hard an allocation tries at the limit. */
enum seg_effort {
	SEG_EFFORT_DEFAULT = 0,	/* asks caches and reclaimers, and waits */
	SEG_EFFORT_EASY = 1	/* takes what is unused, and does neither */
};

struct seg_alloc_options {
	size_t size;		/* sizeof(struct seg_alloc_options) */
	enum seg_policy policy;	/* SEG_POLICY_DEFAULT: the pool's */
	int node;		/* of a policy that names one */
	enum seg_effort effort;
	unsigned zeroed;	/* 1: as seg_alloc_zeroed() */
	const struct timespec *deadline;	/* as seg_alloc_until();
						   NULL: the pool's wait_ms */
};

/*
 * As seg_alloc(), with options for this call.
 * Errors: also EINVAL, options NULL, a size that is not valid, an effort or a
 * policy that there is not, a node that there never was, zeroed above 1, a
 * deadline whose tv_nsec is out of range.  A refusal with SEG_EFFORT_EASY is
 * counted, but neither logged nor recorded.
 */
SEG_API SEG_NODISCARD SEG_ALIGNED void *
seg_alloc_with(struct seg_pool *pool, size_t bytes,
	       const struct seg_alloc_options *options);

/*
 * Takes a segment back.  A NULL segment is a no-op.  A wrong address is
 * detected, given to the misuse callback, counted, and changes nothing.
 * Errors: -EINVAL pool NULL, a foreign or an interior address; -ESTALE the
 * segment is not handed out, or its region was unmapped.
 * A second release by address can't be told from the first once somebody else
 * owns the segment: seg_release_handle() can.
 * If the thread that allocated it and another one release it at the very same
 * moment, both may get 0; one counts, the other one is reported later, maybe by
 * another thread.
 * Wait-free where the thread's cache takes it back, else lock-free.
 */
SEG_API int seg_release(struct seg_pool *pool, void *segment);

/*
 * The bytes of a segment that is handed out: its class, not the request.
 * 0: not such a segment of this pool.  Lock-free.
 */
SEG_API size_t seg_size(struct seg_pool *pool, const void *segment);

/* ---------------------------------------------------------------- handles */

/* One hand-out of a segment.  No two hand-outs of a pool are ever equal. */
struct seg_handle {
	void *segment;
	uint64_t region;	/* counts the regions of the pool */
	uint64_t generation;	/* counts hand-outs and releases of a slice */
};

/*
 * The handle of a segment that the caller holds.
 * Errors: -EINVAL a NULL, a foreign or interior address; -ESTALE not handed
 * out.  Lock-free.
 */
SEG_API int seg_handle_of(struct seg_pool *pool, const void *segment,
			  struct seg_handle *ret_handle);

/*
 * The segment, if it is still handed out to the owner that the handle names.
 * Errors: -EINVAL pool, handle or ret_segment NULL, or a zeroed handle;
 * -ESTALE anything else, such as released or unmapped since, or never had.
 * The answer holds for as long as the owner keeps it.  Lock-free.
 */
SEG_API int seg_resolve(struct seg_pool *pool, const struct seg_handle *handle,
			void **ret_segment);

/*
 * As seg_release(), but only if the handle is still good: of any number of
 * releases with one handle, one wins.
 * Errors: -EINVAL pool or handle NULL, a zeroed handle, or one that names no
 * region that the pool ever had; -ESTALE it is no longer good.  Lock-free.
 */
SEG_API int seg_release_handle(struct seg_pool *pool,
			       const struct seg_handle *handle);

/* ---------------------------------------------------------------- regions */

struct seg_region_info {
	size_t size;		/* sizeof(struct seg_region_info) */
	void *base;
	uint64_t bytes;
	uint64_t region;	/* as in struct seg_handle */
	int node;
	int class_index;
	uint32_t slices;
	uint32_t unused;	/* charged, ready to be taken */
	uint32_t decommitted;	/* neither backed nor charged */
	uint32_t active;	/* handed out */
	uint32_t cached;	/* all others: parked in per-thread caches, or
				   on their way from one place to another */
};

/*
 * Which region of the pool an address lies in.  ret_info->size is set by the
 * caller.  The answer may be old when it arrives, unless the caller holds a
 * segment of the region.
 * Errors: -EINVAL a NULL or a size that is not valid; -ENOENT none.
 * Lock-free; time grows with the slices of the region.
 */
SEG_API int seg_region_of(struct seg_pool *pool, const void *address,
			  struct seg_region_info *ret_info);

/* Returns 0 to go on; anything else ends the walk and is its result. */
typedef int seg_region_fn(void *ctx, const struct seg_region_info *info);

/*
 * Calls fn for each region of the pool.  Regions that come or go meanwhile
 * may be missed.  fn runs inside a read section: it must not block, destroy,
 * trim, wait or fork (it delays all unmapping of the process).
 * Errors: -EINVAL a NULL; else what fn returned.  Lock-free.
 */
SEG_API int seg_region_each(struct seg_pool *pool, seg_region_fn *fn,
			    void *ctx);

/* ------------------------------------------------------------------ nodes */

struct seg_node_info {
	size_t size;		/* sizeof(struct seg_node_info) */
	int node;		/* the system's number */
	unsigned usable;	/* 1: the process may have memory of it now */
	struct seg_budget *budget;	/* its own (node_limit_bytes), or NULL:
					   to ask and to set its limit */
};

/* Returns 0 to go on; anything else ends the walk and is its result. */
typedef int seg_node_fn(void *ctx, const struct seg_node_info *info);

/*
 * Looks at the system, and calls fn for each memory node that the process had
 * or has to do with; one where there is no NUMA.  fn runs in the calling
 * thread, outside read sections, and may call all but what destroys the pool.
 * The budgets are the pool's: it ends them.
 * Errors: -EINVAL a NULL; else what fn returned.  Blocking: while another
 * thread looks.
 */
SEG_API int seg_node_each(struct seg_pool *pool, seg_node_fn *fn, void *ctx);

/* Where the kernel has the pages of a pool's regions. */
struct seg_placement {
	size_t size;		/* sizeof(struct seg_placement) */
	uint64_t resident_pages;	/* placed + misplaced */
	uint64_t placed_pages;		/* on the node of their region */
	uint64_t misplaced_pages;	/* on another */
	uint64_t absent_pages;		/* not backed */
};

/*
 * Asks the kernel about each page of all regions of a node number, or SEG_ALL.
 * For diagnosis: it takes about a microsecond for 4 KiB and holds up unmapping
 * meanwhile.
 * Errors: -EINVAL a NULL, no such node, a size that is not valid; -ENOSYS,
 * -EPERM the kernel does not tell.
 */
SEG_API int seg_pool_placement(struct seg_pool *pool, int node,
			       struct seg_placement *ret_placement);

#ifdef __cplusplus
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif
}
#endif

#include <seg_page.h>
#include <seg_cache.h>

#endif
