// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libseg for C++17: owners that destroy what they have, and a memory resource
// over a pool.  Header only.  What each call does stands in seg.h; get() gives
// the C object, for all that has no method here.  See seg_cxx(7).
//
// Errors:  constructors throw: std::bad_alloc where there is no memory, else
//          std::system_error.  All else returns or sets a std::error_code of
//          the generic category, and throws nothing.
// Owners:  are moved, not copied.  An empty one is false and destroys nothing.
//          Declare them in the order of their making, so that they end as
//          seg.h wants it: pages before caches before pools before budgets.
//          What a destructor can't destroy (EBUSY) is left: destroy() tells.
// Threads: the objects are as in seg.h; an owner itself is one thread's.
//
#ifndef SEG_HPP
#define SEG_HPP

#include <seg.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <memory_resource>
#include <new>
#include <system_error>
#include <type_traits>
#include <utility>

namespace seg {

// What an int of seg.h says.
inline std::error_code error_of(int ret) noexcept
{
	return std::error_code(-ret, std::generic_category());
}

inline void throw_error(int ret, const char *what)
{
	if (ret == -ENOMEM)
		throw std::bad_alloc();
	if (ret)
		throw std::system_error(error_of(ret), what);
}

// A struct of options or results: its size is set, all else is zero.
template <class T> T sized() noexcept
{
	T t{};

	t.size = sizeof(t);
	return t;
}

// ------------------------------------------------------------------- owners

template <class T, int (*End)(T *)> class owner {
public:
	owner() noexcept = default;
	explicit owner(T *object) noexcept : object_(object) {}
	owner(owner &&o) noexcept : object_(o.release()) {}
	owner &operator=(owner &&o) noexcept
	{
		owner taken(std::move(o));

		std::swap(object_, taken.object_);
		return *this;
	}
	~owner() { (void)destroy(); }

	T *get() const noexcept { return object_; }
	explicit operator bool() const noexcept { return object_ != nullptr; }

	// It is the caller's from now on.
	T *release() noexcept { return std::exchange(object_, nullptr); }

	// On an error the object stays as it is, and this its owner.
	std::error_code destroy() noexcept
	{
		int ret = End(object_);

		if (!ret)
			object_ = nullptr;
		return error_of(ret);
	}

private:
	T *object_ = nullptr;
};

class budget : public owner<seg_budget, seg_budget_destroy> {
public:
	using owner::owner;
	budget() noexcept = default;
	explicit budget(const seg_budget_options &o) : owner(create(o)) {}
	explicit budget(std::uint64_t limit_bytes) : budget(with(limit_bytes)) {}

	std::error_code set_limit(std::uint64_t bytes) noexcept
	{
		return error_of(seg_budget_set_limit(get(), bytes));
	}

	// All zero of an empty owner; so are those below.
	struct ::seg_budget_stats stats() const noexcept
	{
		auto s = sized<struct ::seg_budget_stats>();

		(void)::seg_budget_stats(get(), &s);
		return s;
	}

private:
	static seg_budget_options with(std::uint64_t limit_bytes) noexcept
	{
		auto o = sized<seg_budget_options>();

		o.limit_bytes = limit_bytes;
		return o;
	}

	static seg_budget *create(const seg_budget_options &o)
	{
		seg_budget *b = nullptr;

		throw_error(seg_budget_create(&o, &b), "seg_budget_create");
		return b;
	}
};

class pool : public owner<seg_pool, seg_pool_destroy> {
public:
	using owner::owner;
	pool() noexcept = default;
	explicit pool(const seg_pool_options &o) : owner(create(o)) {}
	explicit pool(const budget &b) : pool(on(b)) {}

	std::error_code trim(std::uint64_t *ret_bytes = nullptr) noexcept
	{
		return error_of(seg_pool_trim(get(), ret_bytes));
	}

	struct ::seg_pool_stats stats(int class_index = SEG_ALL,
				      int node = SEG_ALL) const noexcept
	{
		auto s = sized<struct ::seg_pool_stats>();

		(void)::seg_pool_stats(get(), node, class_index, &s);
		return s;
	}

private:
	static seg_pool_options on(const budget &b) noexcept
	{
		auto o = sized<seg_pool_options>();

		o.budget = b.get();
		return o;
	}

	static seg_pool *create(const seg_pool_options &o)
	{
		seg_pool *p = nullptr;

		throw_error(seg_pool_create(&o, &p), "seg_pool_create");
		return p;
	}
};

// Outlived by its pool, as a page is.
class segment {
public:
	segment() noexcept = default;
	segment(const pool &p, std::size_t bytes)
	{
		std::error_code error;

		*this = allocate(p, bytes, error);
		throw_error(-error.value(), "seg_alloc");
	}
	segment(const pool &p, std::size_t bytes, const seg_alloc_options &o)
	{
		std::error_code error;

		*this = allocate(p, bytes, o, error);
		throw_error(-error.value(), "seg_alloc_with");
	}
	segment(segment &&o) noexcept : pool_(o.pool_), data_(o.release()) {}
	segment &operator=(segment &&o) noexcept
	{
		segment taken(std::move(o));

		std::swap(pool_, taken.pool_);
		std::swap(data_, taken.data_);
		return *this;
	}
	~segment() { (void)destroy(); }

	// Empty on an error.
	static segment allocate(const pool &p, std::size_t bytes,
				std::error_code &error) noexcept
	{
		return allocated(p, error, [&] {
			return seg_alloc(p.get(), bytes);
		});
	}
	static segment allocate(const pool &p, std::size_t bytes,
				const seg_alloc_options &o,
				std::error_code &error) noexcept
	{
		return allocated(p, error, [&] {
			return seg_alloc_with(p.get(), bytes, &o);
		});
	}

	// The C object: of a segment that is its address.
	void *data() const noexcept { return data_; }
	std::size_t size() const noexcept
	{
		return data_ ? seg_size(pool_, data_) : 0;
	}
	explicit operator bool() const noexcept { return data_ != nullptr; }

	// It is the caller's from now on.
	void *release() noexcept { return std::exchange(data_, nullptr); }

	// On an error there is nothing that can be released any more.
	std::error_code destroy() noexcept
	{
		void *data = release();

		return error_of(data ? seg_release(pool_, data) : 0);
	}

private:
	template <class Alloc>
	static segment allocated(const pool &p, std::error_code &error,
				 Alloc alloc) noexcept
	{
		int saved = errno;
		segment s;

		s.pool_ = p.get();
		s.data_ = alloc();
		error = error_of(s.data_ ? 0 : -errno);
		errno = saved;
		return s;
	}

	seg_pool *pool_ = nullptr;
	void *data_ = nullptr;
};

class page : public owner<seg_page, seg_page_release> {
public:
	using owner::owner;
	page() noexcept = default;
	page(const pool &p, std::initializer_list<std::size_t> part_bytes)
	{
		std::error_code error;

		*this = create(p, part_bytes, error);
		throw_error(-error.value(), "seg_page_create");
	}

	// Empty on an error.
	static page create(const pool &p,
			   std::initializer_list<std::size_t> part_bytes,
			   std::error_code &error) noexcept
	{
		seg_page *made = nullptr;
		auto parts = static_cast<unsigned>(part_bytes.size());

		error = error_of(seg_page_create(p.get(), part_bytes.begin(),
						 parts, &made));
		return page(made);
	}

	unsigned parts() const noexcept { return seg_page_parts(get()); }
	void *part(unsigned i) const noexcept { return seg_page_part(get(), i); }
	std::size_t part_bytes(unsigned i) const noexcept
	{
		return seg_page_part_bytes(get(), i);
	}
	std::size_t bytes() const noexcept { return seg_page_bytes(get()); }
	std::error_code grow(unsigned i, std::size_t bytes) noexcept
	{
		return error_of(seg_page_grow(get(), i, bytes));
	}
};

// -------------------------------------------------------------------- cache

// Unpins at its end; outlived by the cache.
class pin {
public:
	pin() noexcept = default;
	explicit pin(const seg_pin &held) noexcept : pin_(held) {}
	pin(pin &&o) noexcept : pin_(o.release()) {}
	pin &operator=(pin &&o) noexcept
	{
		pin taken(std::move(o));

		std::swap(pin_, taken.pin_);
		return *this;
	}
	~pin() { (void)unpin(); }

	const seg_pin *get() const noexcept { return &pin_; }
	void *value() const noexcept { return seg_pin_value(&pin_); }
	template <class T> T *as() const noexcept
	{
		return static_cast<T *>(value());
	}
	// Of a cache of pages.
	void *part(unsigned i) const noexcept
	{
		return seg_page_part(as<seg_page>(), i);
	}
	explicit operator bool() const noexcept { return pin_.cache != nullptr; }
	std::error_code tag(std::uint64_t number) noexcept
	{
		return error_of(seg_pin_tag(&pin_, number));
	}
	std::error_code unpin() noexcept
	{
		seg_pin held = release();

		return error_of(seg_unpin(&held));
	}
	// It is the caller's from now on.
	seg_pin release() noexcept { return std::exchange(pin_, seg_pin{}); }

private:
	seg_pin pin_{};
};

// seg_cache_peek() is allowed while it lives.
class read_section {
public:
	read_section() noexcept { seg_read_begin(); }
	~read_section() { seg_read_end(); }
	read_section(const read_section &) = delete;
	read_section &operator=(const read_section &) = delete;
};

class cache : public owner<seg_cache, seg_cache_destroy> {
public:
	using owner::owner;
	cache() noexcept = default;
	explicit cache(const seg_cache_options &o) : owner(create(o)) {}

	// A page is the cache's only if there is no error.  ret_pin may be
	// NULL, else it gets a pin on the value.
	std::error_code put(std::uint64_t key, page &&p,
			    pin *ret_pin = nullptr) noexcept
	{
		return keep(p, put(key, p.get(), 0, ret_pin));
	}
	std::error_code put(std::uint64_t key, void *value,
			    std::uint64_t weight,
			    pin *ret_pin = nullptr) noexcept
	{
		return add(seg_cache_put, key, value, weight, ret_pin);
	}
	std::error_code replace(std::uint64_t key, page &&p,
				pin *ret_pin = nullptr) noexcept
	{
		return keep(p, replace(key, p.get(), 0, ret_pin));
	}
	std::error_code replace(std::uint64_t key, void *value,
				std::uint64_t weight,
				pin *ret_pin = nullptr) noexcept
	{
		return add(seg_cache_replace, key, value, weight, ret_pin);
	}

	// Empty on an error.
	seg::pin find(std::uint64_t key, std::error_code &error) noexcept
	{
		seg_pin held{};

		error = error_of(seg_cache_get(get(), key, &held));
		return seg::pin(held);
	}

	// load is int(std::uint64_t key, void **ret_value, std::uint64_t
	// *ret_weight), as seg_cache_load_fn; or, for a cache of pages,
	// std::error_code(std::uint64_t key, page &ret_page).  What it throws
	// is an error to all who wait: ENOMEM for std::bad_alloc, the code of a
	// std::system_error, else ECANCELED, as for codes of other categories.
	template <class Load>
	seg::pin find_or_load(std::uint64_t key, Load &&load,
			      std::error_code &error, int wait_ms = 0) noexcept
	{
		using function = std::remove_reference_t<Load>;
		loader<function> call{std::addressof(load), {}};
		seg_pin held{};

		error = error_of(seg_cache_get_or_load(
			get(), key, call_load<function>, &call, wait_ms,
			&held));
		if (!error)
			(void)call.loaded.release();
		return seg::pin(held);
	}

	// The value is the caller's; NULL, or an empty page, on an error.
	void *take(std::uint64_t key, std::error_code &error) noexcept
	{
		void *value = nullptr;

		error = error_of(seg_cache_take(get(), key, &value));
		return value;
	}
	page take_page(std::uint64_t key, std::error_code &error) noexcept
	{
		return page(static_cast<seg_page *>(take(key, error)));
	}

	std::error_code remove(std::uint64_t key) noexcept
	{
		return error_of(seg_cache_remove(get(), key, nullptr));
	}
	std::error_code clear() noexcept
	{
		return error_of(seg_cache_clear(get()));
	}

	struct ::seg_cache_stats stats() const noexcept
	{
		auto s = sized<struct ::seg_cache_stats>();

		(void)::seg_cache_stats(get(), &s);
		return s;
	}

private:
	static seg_cache *create(const seg_cache_options &o)
	{
		seg_cache *c = nullptr;

		throw_error(seg_cache_create(&o, &c), "seg_cache_create");
		return c;
	}

	static std::error_code keep(page &p, std::error_code error) noexcept
	{
		if (!error)
			(void)p.release();
		return error;
	}

	template <class Insert>
	std::error_code add(Insert insert, std::uint64_t key, void *value,
			    std::uint64_t weight, pin *ret_pin) noexcept
	{
		seg_pin held{};
		int ret = insert(get(), key, value, weight,
				 ret_pin ? &held : nullptr);

		if (!ret && ret_pin)
			*ret_pin = pin(held);
		return error_of(ret);
	}

	static int errno_of(const std::error_code &error) noexcept
	{
		return error.category() == std::generic_category() ?
			       -error.value() : -ECANCELED;
	}

	// The page stays its own until the cache has taken it.
	template <class Load> struct loader {
		Load *load;
		page loaded;
	};

	template <class Load>
	static int run_load(loader<Load> &l, std::uint64_t key,
			    void **ret_value, std::uint64_t *ret_weight)
	{
		if constexpr (std::is_invocable_v<Load &, std::uint64_t,
						  page &>) {
			std::error_code error = (*l.load)(key, l.loaded);

			if (error)
				return errno_of(error);
			*ret_value = l.loaded.get();
			*ret_weight = 0;
			return 0;
		} else {
			return (*l.load)(key, ret_value, ret_weight);
		}
	}

	template <class Load>
	static int call_load(void *ctx, std::uint64_t key, void **ret_value,
			     std::uint64_t *ret_weight) noexcept
	{
		try {
			return run_load(*static_cast<loader<Load> *>(ctx), key,
					ret_value, ret_weight);
		} catch (const std::bad_alloc &) {
			return -ENOMEM;
		} catch (const std::system_error &e) {
			return errno_of(e.code());
		} catch (...) {
			return -ECANCELED;
		}
	}
};

// --------------------------------------------------------------- intent log

inline int destroy_txlog(seg_txlog *log) noexcept
{
	seg_txlog_destroy(log);
	return 0;
}

// Aborts at its end; outlived by the pool.
class txlog : public owner<seg_txlog, destroy_txlog> {
public:
	using owner::owner;
	txlog() noexcept = default;
	explicit txlog(const pool &p, std::size_t capacity = 0)
		: owner(create(p, capacity)) {}

	// Both are the log's if there is no error.
	std::error_code put(std::uint64_t key, page &&complete,
			    page &&modified = page()) noexcept
	{
		int ret = seg_txlog_put(get(), key, complete.get(),
					modified.get());

		if (!ret) {
			(void)complete.release();
			(void)modified.release();
		}
		return error_of(ret);
	}

	// The pair is the caller's; if the two are one page, modified is empty.
	std::error_code take(std::uint64_t key, page &complete,
			     page &modified) noexcept
	{
		seg_page *c = nullptr, *m = nullptr;
		int ret = seg_txlog_take(get(), key, &c, &m);

		if (!ret) {
			complete = page(c);
			modified = page(m == c ? nullptr : m);
		}
		return error_of(ret);
	}

	std::error_code commit(seg_txlog_write_fn *write = nullptr,
			       void *ctx = nullptr) noexcept
	{
		return error_of(seg_txlog_commit(get(), write, ctx));
	}
	std::error_code abort() noexcept
	{
		return error_of(seg_txlog_abort(get()));
	}
	std::size_t count() const noexcept { return seg_txlog_count(get()); }

private:
	static seg_txlog *create(const pool &p, std::size_t capacity)
	{
		auto o = sized<seg_txlog_options>();
		seg_txlog *log = nullptr;

		o.capacity = capacity;
		throw_error(seg_txlog_create(p.get(), &o, &log),
			    "seg_txlog_create");
		return log;
	}
};

// ---------------------------------------------------------- memory resource

// Whole segments of a pool, which outlives it: what asks for little has a
// std::pmr::monotonic_buffer_resource or a pool resource on top.  What is
// larger than SEG_MAX_BYTES, of 0 bytes, or aligned to more than a segment is,
// comes from upstream.  std::bad_alloc at the limit, after the pool's wait_ms.
class memory_resource : public std::pmr::memory_resource {
public:
	explicit memory_resource(const pool &p,
				 std::pmr::memory_resource *upstream =
					 std::pmr::get_default_resource())
		: pool_(p.get()), upstream_(upstream) {}

	std::pmr::memory_resource *upstream_resource() const noexcept
	{
		return upstream_;
	}

private:
	static bool is_ours(std::size_t bytes, std::size_t align) noexcept
	{
		return bytes && bytes <= SEG_MAX_BYTES &&
		       align <= SEG_MIN_BYTES;
	}

	void *do_allocate(std::size_t bytes, std::size_t align) override
	{
		void *segment;

		if (!is_ours(bytes, align))
			return upstream_->allocate(bytes, align);
		segment = seg_alloc(pool_, bytes);
		if (!segment)
			throw std::bad_alloc();
		return segment;
	}

	void do_deallocate(void *p, std::size_t bytes,
			   std::size_t align) override
	{
		if (is_ours(bytes, align))
			(void)seg_release(pool_, p);
		else
			upstream_->deallocate(p, bytes, align);
	}

	bool do_is_equal(const std::pmr::memory_resource &o)
		const noexcept override
	{
		auto other = dynamic_cast<const memory_resource *>(&o);

		return other && other->pool_ == pool_ &&
		       (other->upstream_ == upstream_ ||
			other->upstream_->is_equal(*upstream_));
	}

	seg_pool *pool_;
	std::pmr::memory_resource *upstream_;
};

} // namespace seg

#endif
