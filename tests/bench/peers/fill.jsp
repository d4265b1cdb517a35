<%@ page contentType="text/plain" trimDirectiveWhitespaces="true" session="false"
         import="java.lang.reflect.Field, org.apache.catalina.*, org.apache.catalina.connector.*,
                 org.apache.catalina.ha.ClusterManager" %><%
  // Many sessions in one request, or the heap that is in use after a full collection.
  if (request.getParameter("heap") != null) {
    System.gc();
    Runtime runtime = Runtime.getRuntime();
    out.print(runtime.totalMemory() - runtime.freeMemory());
    return;
  }
  Field inner = RequestFacade.class.getDeclaredField("request");
  inner.setAccessible(true);
  Manager manager = ((Request) inner.get(request)).getContext().getManager();
  int wanted = Integer.parseInt(request.getParameter("sessions"));
  for (int made = 0; made < wanted; made++) {
    Session session = manager.createSession(null);
    java.util.Map<String, Object> user = new java.util.HashMap<>();
    user.put("id", 42 + made);
    user.put("name", new String("Alice Example"));
    java.util.List<Object> cart = new java.util.ArrayList<>();
    for (String article : new String[] {"keyboard", "monitor stand"}) {
      java.util.Map<String, Object> line = new java.util.HashMap<>();
      line.put("article", new String(article));
      line.put("count", 1);
      cart.add(line);
    }
    session.getSession().setAttribute("user", user);
    session.getSession().setAttribute("visits", 7);
    session.getSession().setAttribute("cart", cart);
    session.getSession().setAttribute("csrf", new String("c0ffee0123456789c0ffee0123456789"));
    session.getSession().setAttribute("locale", new String("en_GB"));
    session.getSession().setAttribute("seen", new String("2026-11-30T12:00:00"));
    session.endAccess();
    ((ClusterManager) manager).requestCompleted(session.getId());
  }
  out.print(manager.getActiveSessions());
%>
