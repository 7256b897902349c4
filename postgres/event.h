#pragma once

namespace slipstream::postgres {

// An eventfd: readable from signal() to clear(), so that poll() of it ends. Any thread may use it.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void signal() const;
  void clear() const;
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace slipstream::postgres
